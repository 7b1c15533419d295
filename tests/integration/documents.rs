//! What the documents point at is there: files move, and sentences do not move with them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// All of the repository's Markdown files.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["docs", "buildroot-external"].map(|name| Path::new(ROOT).join(name)).to_vec();
    let root = std::fs::read_dir(ROOT).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    found.extend(root);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            // Not through links, which may lead in a circle.
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    found
}

/// The text without its code blocks.
fn prose(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_fence && !is_code
    });
    lines.fold(String::new(), |text, line| text + line + "\n")
}

/// The anchors that a document's headings get.
fn anchors(path: &Path) -> HashSet<String> {
    let slug = |heading: &str| -> String {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
        kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    prose(path).lines().filter(|line| line.starts_with('#')).map(|line| slug(line.trim_start_matches('#'))).collect()
}

#[test]
fn relative_links_lead_somewhere() {
    let mut links = 0;
    for document in documents() {
        let text = prose(&document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { document.clone() } else { document.parent().unwrap().join(path) };
            assert!(target.exists(), "{} links to {link}, which is not there", document.display());
            assert!(
                anchor.is_empty() || anchors(&target).contains(anchor),
                "{} links to {link}, where there is no such heading",
                document.display()
            );
            links += 1;
        }
    }
    assert!(links > 100, "{links} links");
}

#[test]
fn paths_that_documents_name_are_there() {
    let folders = [".github/", "buildroot-external/", "config/", "docs/", "scripts/", "src/", "systemd/", "tests/"];
    let mut paths = 0;
    // The changelog tells of what was.
    for document in documents().iter().filter(|path| !path.ends_with("CHANGELOG.md")) {
        let text = prose(document);
        for name in text.split('`').skip(1).step_by(2) {
            let is_path = folders.iter().any(|folder| name.starts_with(folder));
            if is_path && !name.contains([' ', '\n', '*', '{', '…']) {
                assert!(Path::new(ROOT).join(name).exists(), "{} names {name}, which is not there", document.display());
                paths += 1;
            }
        }
    }
    assert!(paths > 20, "{paths} paths");
}
