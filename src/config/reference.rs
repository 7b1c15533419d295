//! The table of settings for people: the commented file with every default, and the manual's table. Both are kept in the
//! repository; `make settings` writes them anew after a change of the table. Compiled for tests only.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value as Json;

use super::{Choice, Config, Entry, Shape, table};

const FILE: &str = "config/pinhole.yaml";
const MANUAL: &str = "docs/configuration.md";
/// Between these the manual has the table.
const MARKS: [&str; 2] =
    ["<!-- Written by `make settings` from src/config.rs. -->\n", "<!-- End of what is written. -->\n"];
const WIDTH: usize = 120;

const PREFACE: &str = "\
# Pinhole's configuration. Every key is here with its default; leave out what you do not want to change.
#
# On the appliance, put your own copy on the card's boot partition as pinhole.yaml: any computer can edit it. A section
# with a mistake in it is left out as a whole, and page, picture and journal say what is wrong and where; the rest
# applies. `pinholed --check-config --config FILE` checks a file; `pinholed --schema` helps editors to do so.
#
# Times are written 500ms, 10s or 2m.
";

/// What a value may be, in words, where its documentation does not say that.
fn values(entry: &Entry) -> String {
    let words = match entry.shape {
        Shape::Word(form, _) => form.to_owned(),
        shape => shape.range(),
    };
    if words.is_empty() || entry.unit.is_empty() { words } else { format!("{words} {}", entry.unit) }
}

fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| format!("{}{}.", first.to_uppercase(), letters.as_str())).unwrap_or_default()
}

/// A value as it stands in a file.
fn written(value: &Json) -> String {
    match value {
        Json::String(text) if text.is_empty() || text.contains(|c: char| !c.is_ascii_alphanumeric() && c != '-') => {
            value.to_string()
        }
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn file() -> String {
    let mut file = PREFACE.to_owned();
    section(&mut file, "", &Config::default());
    file
}

fn section(file: &mut String, key: &str, defaults: &Config) {
    for (number, entry) in table().iter().filter(|entry| entry.parent() == key).enumerate() {
        let indentation = " ".repeat(2 * entry.key.matches('.').count());
        if number > 0 || key.is_empty() {
            file.push('\n');
        }
        comment(file, &indentation, "", &entry.summary());
        if let Shape::Choice(choices) = entry.shape {
            let width = choices.iter().map(|choice| choice.word.len()).max().unwrap_or_default();
            for Choice { word, doc } in choices {
                comment(file, &indentation, &format!("  {word:width$}  "), doc);
            }
        } else {
            comment(file, &indentation, "", &sentence(&values(entry)));
        }
        if entry.is_section() {
            writeln!(file, "{indentation}{}:", entry.name()).unwrap();
            section(file, entry.key, defaults);
        } else {
            writeln!(file, "{indentation}{}: {}", entry.name(), written(&entry.get(defaults))).unwrap();
        }
    }
}

/// Lines that begin with `#`, as many as a text takes; `head` comes before the first, and as many spaces before the others.
fn comment(file: &mut String, indentation: &str, head: &str, text: &str) {
    let start = format!("{indentation}# {head}");
    let (mut line, mut is_fresh) = (start.clone(), true);
    for word in text.split_whitespace() {
        if !is_fresh && line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(file, "{line}").unwrap();
            (line, is_fresh) = (format!("{indentation}# {}", " ".repeat(head.len())), true);
        }
        if !is_fresh {
            line.push(' ');
        }
        line.push_str(word);
        is_fresh = false;
    }
    if !is_fresh {
        writeln!(file, "{line}").unwrap();
    }
}

fn manual() -> String {
    let mut rows = "| key | default | values | what it is | in force |\n|---|---|---|---|---|\n".to_owned();
    rows_of(&mut rows, "", &Config::default());
    rows
}

fn rows_of(rows: &mut String, key: &str, defaults: &Config) {
    for entry in table().iter().filter(|entry| entry.parent() == key) {
        if entry.is_section() {
            rows_of(rows, entry.key, defaults);
            continue;
        }
        let default = match entry.get(defaults) {
            Json::String(text) if text.is_empty() => "empty".to_owned(),
            value => format!("`{}`", written(&value).trim_matches('"')),
        };
        let mut words = vec![entry.summary()];
        let values = match entry.shape {
            Shape::Choice(choices) => {
                words.extend(choices.iter().map(|Choice { word, doc }| format!("`{word}`: {}", doc.trim())));
                choices.iter().map(|choice| format!("`{}`", choice.word)).collect::<Vec<_>>().join(", ")
            }
            Shape::Switch => "`true`, `false`".to_owned(),
            Shape::Text { .. } | Shape::Word("", _) => format!("text {}", values(entry)),
            Shape::List { .. } | Shape::Faults => "list".to_owned(),
            Shape::Controls => "values by name".to_owned(),
            _ => values(entry),
        };
        words.push(entry.details());
        let cells = [&*format!("`{}`", entry.key), &default, &values, &words.join(" "), entry.takes.words()];
        let cells = cells.map(|cell| cell.trim().replace('|', "\\|"));
        writeln!(rows, "| {} |", cells.join(" | ")).unwrap();
    }
}

/// Compares a file of the repository with what it should be; writes it where that is asked for.
fn hold(path: &str, wanted: impl Fn(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let is = std::fs::read_to_string(&path).unwrap();
    let wanted = wanted(&is);
    if std::env::var_os("PINHOLE_WRITE").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    } else {
        let differs = is.lines().zip(wanted.lines()).position(|(is, wanted)| is != wanted);
        let line = differs.unwrap_or_else(|| is.lines().count().min(wanted.lines().count()));
        let text = |text: &str| text.lines().nth(line).unwrap_or("nothing more").to_owned();
        assert!(
            is == wanted,
            "{} is not what the table of settings says; run make settings. Line {} is\n{}\ninstead of\n{}",
            path.display(),
            line + 1,
            text(&is),
            text(&wanted)
        );
    }
}

#[test]
fn the_commented_file_is_that_of_the_table() {
    hold(FILE, |_| file());
}

#[test]
fn the_manual_has_the_table() {
    hold(MANUAL, |is| {
        let (before, rest) = is.split_once(MARKS[0]).unwrap();
        let (_, after) = rest.split_once(MARKS[1]).unwrap();
        [before, MARKS[0], &manual(), MARKS[1], after].concat()
    });
}
