//! The likeliest mistakes in YAML, told by what stands in the line: the reader's own words for them ("did not find
//! expected key") help nobody.
//!
//! No value is repeated here: where the text is no YAML nobody can say what is below `system`.

use std::net::Ipv6Addr;

use super::entry::Shape;
use super::outline::{Fault, Key, Outline, Place};
use super::problem::{Problem, is_key};
use super::table;

/// What is wrong with a text that is not read.
pub(super) fn explained(text: &str, fault: Fault) -> Problem {
    if !fault.is_syntax {
        return Problem::new(Some(fault.at), fault.reason);
    }
    let (last, _) = fault.at;
    // What the reader complains of may have begun far above, where it first read on over the end of a line.
    let first = fault.began.map_or(last, |(line, _)| line.min(last));
    let lines: Vec<Line> = text.lines().enumerate().take(last).filter_map(|(n, line)| Line::of(n + 1, line)).collect();
    let near = || lines.iter().filter(|line| line.number >= first);
    let found = near()
        .find_map(Line::tab)
        .or_else(|| near().find_map(Line::open_quote))
        .or_else(|| near().find_map(Line::backslash))
        .or_else(|| near().find_map(Line::address))
        .or_else(|| near().rev().find_map(Line::needs_quotes))
        .or_else(|| near().find_map(Line::no_space))
        .or_else(|| near().find_map(Line::no_colon))
        .or_else(|| near().find_map(Line::open_bracket))
        .or_else(|| near().find_map(Line::comma))
        .or_else(|| indentation(&lines, last));
    match found {
        Some((at, reason)) => Problem::new(Some(at), reason),
        None => Problem::new(Some(fault.began.unwrap_or(fault.at)), fault.reason),
    }
}

/// Puts better words to a problem where its line shows what was meant.
pub(super) fn refined(text: &str, problem: Problem) -> Problem {
    let line = problem.at.and_then(|(number, _)| Line::of(number, text.lines().nth(number.checked_sub(1)?)?));
    let found = line.as_ref().and_then(|line| line.no_space().or_else(|| line.cut_address()));
    match found {
        Some((at, reason)) => Problem::new(Some(at), reason),
        None => problem,
    }
}

/// What was read otherwise than it was meant, very likely: a text that a number sign cut, or quotes that are none.
pub(super) fn notes(text: &str, outline: &Outline) -> Vec<Problem> {
    let is_text = |key: &&Key| {
        let entry = table().iter().find(|entry| entry.key == key.path);
        entry.is_some_and(|entry| entry.is_secret || matches!(entry.shape, Shape::Text { .. }))
    };
    outline.keys.iter().filter(is_text).filter_map(|key| note(text, key)).collect()
}

fn note(text: &str, key: &Key) -> Option<Problem> {
    let value = key.value.as_ref().filter(|value| value.is_plain)?;
    let written = text.get(value.span.clone())?;
    let behind = text.get(value.span.end..)?.lines().next().unwrap_or_default();
    let path = &key.path;
    let name = path.rsplit('.').next().unwrap_or_default();
    let comment = behind.trim_start().strip_prefix('#');
    // "text #1", but not "text # a comment", unless that has the time in it.
    let is_cut = comment.is_some_and(|comment| {
        comment.is_empty()
            || !comment.starts_with([' ', '\t', '#'])
            || (path == "overlay.text" && comment.contains('%'))
    });
    let reason = if is_cut {
        format!(
            "{path} ends before the #, which begins a comment: a text with # in it needs quotes, as in {name}: \"… #…\""
        )
    } else if value.has_prefix {
        format!("{path} begins with & or !, which is not read as text: it needs quotes, as in {name}: \"…\"")
    } else if written.ends_with('"') && written.matches('"').count() % 2 == 1 {
        format!(
            "{path} ends with a quotation mark but does not begin with one: write {name}: \"…\", or '…\"' where it is meant"
        )
    } else if written.starts_with(['“', '”', '„', '‘', '’', '«', '»']) {
        format!("{path} begins with a typographic quotation mark, which is read as text: write {name}: \"…\"")
    } else {
        return None;
    };
    Some(Problem { at: Some(key.at), reason, is_note: true })
}

/// A mistake and where it is.
type Found = Option<(Place, String)>;

/// A line that is neither empty nor a comment.
struct Line<'a> {
    number: usize,
    indentation: &'a str,
    /// Without indentation and hyphens.
    content: &'a str,
    /// In characters.
    content_column: usize,
}

impl<'a> Line<'a> {
    fn of(number: usize, line: &'a str) -> Option<Self> {
        let trimmed = line.trim_start();
        let content = trimmed.trim_start_matches("- ").trim_start();
        let is_nothing = content.is_empty() || content.starts_with('#');
        (!is_nothing).then(|| Self {
            number,
            indentation: &line[..line.len() - trimmed.len()],
            content: content.trim_end(),
            content_column: line[..line.len() - content.len()].chars().count() + 1,
        })
    }

    fn at(&self) -> Place {
        (self.number, self.content_column)
    }

    /// The key and its value, where there are both.
    fn parts(&self) -> Option<(&'a str, &'a str)> {
        self.content.split_once(": ").map(|(key, value)| (key, value.trim()))
    }

    /// The line's key as it may be shown: one that there is.
    fn key(&self) -> &'a str {
        let key = self.content.split([':', ' ', '=']).next().unwrap_or_default();
        if is_key(key) { key } else { "key" }
    }

    fn tab(&self) -> Found {
        let column = self.indentation.find('\t')? + 1;
        let reason = format!("a tab indents this line: YAML takes spaces only, as in \"  {}: …\"", self.key());
        Some(((self.number, column), reason))
    }

    fn open_quote(&self) -> Found {
        let (_, value) = self.parts().unwrap_or(("", self.content));
        let quote = value.chars().next().filter(|first| "\"'".contains(*first))?;
        let key = self.key();
        let rest = match closing(value, quote) {
            None => {
                return Some((
                    self.at(),
                    format!("the quotation mark {quote} is not closed: write {key}: {quote}…{quote}"),
                ));
            }
            Some(end) => value[end..].trim_start(),
        };
        let is_over = rest.is_empty() || rest.starts_with(['#', ',', '}', ']', ':']);
        (!is_over).then(|| {
            let other = if quote == '"' { '\'' } else { '"' };
            let reason = format!(
                "text stands behind the closing {quote}: put all of it between quotation marks, as in {key}: {other}…{other}"
            );
            (self.at(), reason)
        })
    }

    fn backslash(&self) -> Found {
        let (_, value) = self.parts()?;
        (value.starts_with('"') && value.contains('\\')).then(|| {
            let reason =
                "in double quotes \\ begins an escape such as \\n: write \\\\ for \\ itself, or use single quotes";
            (self.at(), reason.to_owned())
        })
    }

    fn comma(&self) -> Found {
        (self.content.ends_with(',') && !self.content.contains(['[', '{']))
            .then(|| (self.at(), "a comma ends this line: outside of [ ] and { } there are none".to_owned()))
    }

    fn needs_quotes(&self) -> Found {
        let value = match self.parts() {
            Some((_, value)) => value,
            // The text of a key in the line above.
            None if self.content.starts_with(['%', '@', '`']) => self.content,
            None => return None,
        };
        let first = value.chars().next()?;
        let key = self.key();
        if let Some((inner, _)) = value.split_once(':')
            && is_key(inner)
        {
            return Some((self.at(), format!("two keys stand on one line: write {inner}: … on the next, indented")));
        }
        let what = match first {
            '%' => "a text that begins with %".to_owned(),
            '@' | '`' | '*' | '&' | '!' => format!("a text that begins with {first}"),
            '[' | '{' if value.chars().filter(|c| "[{".contains(*c)).count() == value.matches([']', '}']).count() => {
                format!("a text that begins with {first}")
            }
            '[' | '{' | '"' | '\'' | '|' | '>' => return None,
            _ if value.contains(": ") || value.ends_with(':') => "a text with a colon and a space in it".to_owned(),
            _ => return None,
        };
        // Times are for the overlay.
        let (key, form) = match first {
            '%' if key == "key" => ("text", "\"%H:%M\""),
            '%' => (key, "\"%H:%M\""),
            _ => (key, "\"…\""),
        };
        Some((self.at(), format!("{what} needs quotes, as in {key}: {form}")))
    }

    /// An IPv6 address that YAML takes for a key.
    fn address(&self) -> Found {
        let is_listen = self.key() == "listen" || self.content.contains("]:");
        let is_found = !is_listen && self.addresses().any(|word| word.starts_with(':') || word.ends_with(':'));
        is_found.then(|| {
            let list = if self.key() == "key" { "\"::1\"".to_owned() } else { format!("{}: [\"::1\"]", self.key()) };
            (self.at(), format!("an IPv6 address that begins or ends with a colon needs quotes, as in {list}"))
        })
    }

    /// The same where the text is read all the same.
    fn cut_address(&self) -> Found {
        self.addresses().any(|word| word.ends_with(':')).then(|| self.address())?
    }

    fn addresses(&self) -> impl Iterator<Item = &'a str> {
        let words = self.content.split(" #").next().unwrap_or_default().split([' ', ',', '[', ']', '{', '}']);
        words.filter(|word| word.split('/').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()))
    }

    fn no_space(&self) -> Found {
        let (key, rest) = self.content.split_once(':')?;
        let is_meant = is_key(key) && !rest.is_empty() && !rest.starts_with([' ', '\t']);
        is_meant.then(|| (self.at(), format!("a space is missing behind the colon: write {key}: …")))
    }

    fn no_colon(&self) -> Found {
        let key = self.content.split([' ', '=']).next().unwrap_or_default();
        let is_meant = is_key(key) && (self.content.len() == key.len() || !self.content.contains(':'));
        is_meant.then(|| (self.at(), format!("a colon is missing behind {key}: write {key}: …")))
    }

    fn open_bracket(&self) -> Found {
        let count = |brackets: [char; 2]| self.content.matches(brackets).count();
        (count(['[', '{']) > count([']', '}'])).then(|| {
            let reason = "a [ or { on this line is not closed: a list is [a, b], a text that begins so needs quotes";
            (self.at(), reason.to_owned())
        })
    }
}

/// A line that does not begin where those of its section do.
fn indentation(lines: &[Line], last: usize) -> Found {
    let at = lines.iter().rposition(|line| line.number <= last)?;
    let (line, above) = (&lines[at], &lines[at.checked_sub(1)?]);
    if let Some(found) = above.no_colon() {
        return Some(found);
    }
    let (is, was) = (line.indentation.len(), above.indentation.len());
    // Below a key without a value it is right to begin further in.
    (is != was && !(is > was && above.content.ends_with(':'))).then(|| {
        let reason = format!(
            "this line begins with {is} spaces, the one above it with {was}: the keys of a section begin in one column"
        );
        (line.at(), reason)
    })
}

/// Where the text behind a closing quotation mark begins.
fn closing(value: &str, quote: char) -> Option<usize> {
    let mut rest = value.char_indices().skip(1).peekable();
    while let Some((at, c)) = rest.next() {
        if c == quote && !(quote == '\'' && rest.next_if(|(_, next)| *next == quote).is_some()) {
            return Some(at + 1);
        }
        if c == '\\' && quote == '"' {
            rest.next();
        }
    }
    None
}

#[cfg(test)]
mod tests;
