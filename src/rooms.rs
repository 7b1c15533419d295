//! Holds the order of the rooms that `lib.rs` writes down.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Each room's floor, counted from the top: groups of `pub mod` lines with something else between them.
fn floors(lib: &str) -> HashMap<String, usize> {
    let (mut floors, mut floor, mut in_group) = (HashMap::new(), 0, false);
    for line in lib.lines() {
        match line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) {
            Some(room) => {
                floor += usize::from(!in_group);
                floors.insert(room.to_owned(), floor);
                in_group = true;
            }
            None => in_group = false,
        }
    }
    floors
}

/// What a file has besides comments and its tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// The rooms that a file names: behind `crate::`, in braces there too, or behind as many `super::` as lead out of its own.
/// `depth` is how many modules the file is below the crate's root.
fn named(code: &str, depth: usize) -> Vec<String> {
    let mut paths: Vec<&str> = code.split("crate::").skip(1).collect();
    let out = "super::".repeat(depth);
    paths.extend(code.split(&*out).skip(1).filter(|_| depth > 0).filter(|path| !path.starts_with("super::")));
    let word = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut rooms = Vec::new();
    for path in paths {
        let Some(list) = path.strip_prefix('{') else {
            rooms.push(word(path));
            continue;
        };
        let mut nesting = 0;
        for (at, c) in list.char_indices() {
            match c {
                '{' => nesting += 1,
                '}' if nesting == 0 => break,
                '}' => nesting -= 1,
                _ => {}
            }
            let before = list[..at].trim_end();
            if nesting == 0 && (before.is_empty() || before.ends_with(',')) && c.is_alphabetic() {
                rooms.push(word(&list[at..]));
            }
        }
    }
    rooms
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && path.file_stem().unwrap() != "tests" {
            files.push(path);
        }
    }
    files
}

#[test]
fn a_room_imports_lower_rooms_only() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let floors = floors(&std::fs::read_to_string(source.join("lib.rs")).unwrap());
    assert!(floors["app"] < floors["capture"] && floors["capture"] == floors["http"], "{floors:?}");
    let mut seen = 0;
    let mut wrong = Vec::new();
    for file in files(&source) {
        let path = file.strip_prefix(&source).unwrap().with_extension("");
        let modules: Vec<_> = path.iter().map(|part| part.to_str().unwrap()).filter(|part| *part != "mod").collect();
        let Some(floor) = floors.get(modules[0]) else { continue };
        for other in named(&code(&std::fs::read_to_string(&file).unwrap()), modules.len()) {
            seen += 1;
            if other != modules[0] && floors.get(&other).is_some_and(|other| other <= floor) {
                wrong.push(format!("{} imports {other}", path.display()));
            }
        }
    }
    assert!(seen > 100, "only {seen} imports found");
    assert!(wrong.is_empty(), "not in the order of lib.rs:\n{}", wrong.join("\n"));
}

#[test]
fn imports_are_found_however_they_are_written() {
    let text = "use crate::frame::Size;\nuse crate::{board::{self, Board}, http};\n// crate::not_this\nfn f() { super::super::app::g(); \
                super::own(); }\n#[cfg(test)]\nmod tests { use crate::app; }";
    assert_eq!(named(&code(text), 2), ["frame", "board", "http", "app"]);
    assert_eq!(named("super::jpeg::END", 1), ["jpeg"]);
    let floors = floors("pub mod a;\n\n// Text.\npub mod b;\npub mod c;\n");
    assert_eq!((floors["a"], floors["b"], floors["c"]), (1, 2, 2));
}
