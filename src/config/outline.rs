//! What a YAML text holds: libyaml's events one by one, with bounds.
//!
//! serde's readers keep all events of a text before they look at any, take time with the square of the nesting, and write out
//! what aliases stand for. Here the text is gone through once and refused where it is too much; what is left are its values
//! with their places.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::rc::Rc;

use unsafe_libyaml_norway as unsafe_libyaml;

use super::node::{Kind, Node};

/// The deepest nesting taken; of the settings none needs more than five.
const DEPTH_MAX: usize = 16;
/// What a text may come to with its aliases written out: a byte for each node and its text. Twice what a file may have, so
/// that a text without aliases never reaches it.
const SIZE_MAX: usize = 128 * 1024;
/// `%YAML` and `%TAG`: each is compared with all before it.
const DIRECTIVES_MAX: usize = 16;
/// Keys are noted so far down: `system.wifi.ssid`.
const NOTED_DEPTH: usize = 3;
/// No key of ours is longer. What is below a longer one is not noted, lest its name be copied for each.
const NAME_MAX: usize = 64;

/// Line and column, from 1.
pub(super) type Place = (usize, usize);

/// The values of a text, and its keys down to the third level.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// All there is; `None` without any.
    pub root: Option<Node>,
    /// In the text's order.
    pub keys: Vec<Key>,
    /// True for a list or a sentence where keys should be.
    pub is_no_mapping: bool,
    /// Where the first anchor (`&name`) is.
    pub anchor: Option<Place>,
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Such as `camera.frame_rate`.
    pub path: String,
    /// True at the top level.
    pub is_section: bool,
    /// Where the key stands.
    pub at: Place,
    /// Its value, where that is neither a list nor a mapping.
    pub value: Option<Scalar>,
}

/// A value as it is written.
#[derive(Debug)]
pub(super) struct Scalar {
    /// Its bytes in the text.
    pub span: Range<usize>,
    /// True without quotes.
    pub is_plain: bool,
    /// True with an anchor (`&name`) or a tag of one's own (`!name`) in front.
    pub has_prefix: bool,
}

/// Why a text is not read.
#[derive(Debug)]
pub(super) struct Fault {
    /// Where the reader gave up.
    pub at: Place,
    /// Where what it was reading began.
    pub began: Option<Place>,
    /// In words.
    pub reason: String,
    /// True where the text is no YAML, false where it is too much of it.
    pub is_syntax: bool,
}

impl Outline {
    /// Goes through a text.
    pub fn of(text: &str) -> Result<Self, Fault> {
        let mut directives = text.lines().enumerate().filter(|(_, line)| line.starts_with('%'));
        if let Some((line, _)) = directives.nth(DIRECTIVES_MAX) {
            return Err(refused((line + 1, 1), format!("more than {DIRECTIVES_MAX} lines begin with %")));
        }
        let mut parser = Parser::new(text);
        let mut walk = Walk::default();
        let mut documents = 0;
        loop {
            let (event, mark) = parser.next()?;
            if mark.anchor.is_some() {
                walk.outline.anchor.get_or_insert(mark.at);
            }
            match event {
                Event::StreamEnd => return Ok(walk.outline),
                Event::Document => {
                    documents += 1;
                    if documents > 1 {
                        let reason = "a second document begins here, after the line \"---\": a configuration is one";
                        return Err(refused(mark.at, reason.to_owned()));
                    }
                }
                Event::Scalar(text, is_plain) => walk.scalar(&text, is_plain, mark)?,
                Event::Alias(name) => walk.alias(&name, mark.at)?,
                Event::Start { is_mapping } => walk.start(is_mapping, mark)?,
                Event::End => walk.end(),
            }
        }
    }

    /// The first key of the top level that was there before, and where.
    pub fn section_twice(&self) -> Option<(&Key, &Key)> {
        let mut seen = BTreeMap::new();
        let mut sections = self.keys.iter().filter(|key| key.is_section);
        sections.find_map(|key| seen.insert(&*key.path, key).map(|first| (key, first)))
    }
}

fn refused(at: Place, reason: String) -> Fault {
    Fault { at, began: None, reason, is_syntax: false }
}

/// What an anchor stands for.
struct Anchored {
    node: Node,
    size: usize,
    height: usize,
    is_private: bool,
}

/// A list or mapping that is not at its end.
struct Open {
    at: Place,
    is_mapping: bool,
    /// Its items, of a mapping keys and values in turn.
    nodes: Vec<Node>,
    /// Of a mapping whose keys are noted.
    path: Option<String>,
    /// Of a mapping: what is next.
    next: Next,
    anchor: Option<Vec<u8>>,
    size: usize,
    height: usize,
    /// True at `system` and below.
    is_private: bool,
}

/// What comes next in a list or mapping.
enum Next {
    Item,
    Key,
    /// The value of a key, and where that is, if it is a plain word.
    Value(Option<(String, Place)>),
}

#[derive(Default)]
struct Walk {
    outline: Outline,
    open: Vec<Open>,
    /// `None` while what it stands for is not at its end.
    anchors: BTreeMap<Vec<u8>, Option<Rc<Anchored>>>,
    size: usize,
}

impl Walk {
    fn scalar(&mut self, text: &[u8], is_plain: bool, mark: Mark) -> Result<(), Fault> {
        let size = 1 + text.len();
        self.grow(size, mark.at)?;
        // Escapes are written out as UTF-8, too.
        let text = String::from_utf8_lossy(text).into_owned();
        let has_prefix = mark.anchor.is_some() || mark.tag == Tag::Own;
        let value = Scalar { span: mark.span, is_plain, has_prefix };
        let (_, is_private) = self.place(Some(&text), mark.at, Some(value));
        let kind = match mark.tag {
            Tag::None if is_plain => Kind::Plain(text),
            Tag::Yaml => Kind::Plain(text),
            Tag::None | Tag::Text | Tag::Own => Kind::Text(text),
        };
        let node = Node { at: Some(mark.at), kind };
        if let Some(anchor) = mark.anchor {
            self.anchors.insert(anchor, Some(Rc::new(Anchored { node: node.clone(), size, height: 0, is_private })));
        }
        self.add(node, size, 0);
        Ok(())
    }

    fn alias(&mut self, name: &[u8], at: Place) -> Result<(), Fault> {
        let Some(Some(anchored)) = self.anchors.get(name).cloned() else {
            return Err(refused(at, "a text that begins with * needs quotes, as in \"*…\"".to_owned()));
        };
        if self.open.len() + anchored.height > DEPTH_MAX {
            return Err(too_deep(at));
        }
        self.grow(anchored.size, at)?;
        let (_, is_private) = self.place(None, at, None);
        if anchored.is_private != is_private {
            // Else a message about the one place would repeat a value of the other.
            return Err(refused(at, "this alias leads into system or out of it: write out what is meant".to_owned()));
        }
        self.add(Node { at: Some(at), kind: anchored.node.kind.clone() }, anchored.size, anchored.height);
        Ok(())
    }

    fn start(&mut self, is_mapping: bool, mark: Mark) -> Result<(), Fault> {
        if self.open.len() == DEPTH_MAX {
            return Err(too_deep(mark.at));
        }
        self.grow(1, mark.at)?;
        let is_root = self.open.is_empty();
        self.outline.is_no_mapping |= is_root && !is_mapping;
        let (path, is_private) = self.place(None, mark.at, None);
        if let Some(anchor) = &mark.anchor {
            self.anchors.insert(anchor.clone(), None);
        }
        let path = if is_root { Some(String::new()) } else { path };
        let next = if is_mapping { Next::Key } else { Next::Item };
        self.open.push(Open {
            at: mark.at,
            is_mapping,
            nodes: Vec::new(),
            path: path.filter(|_| is_mapping),
            next,
            anchor: mark.anchor,
            size: 1,
            height: 1,
            is_private,
        });
        Ok(())
    }

    fn end(&mut self) {
        // libyaml's events are in pairs.
        let Some(Open { at, is_mapping, nodes, anchor, size, height, is_private, .. }) = self.open.pop() else {
            return;
        };
        let kind = if is_mapping { Kind::Map(pairs(nodes)) } else { Kind::List(nodes) };
        let node = Node { at: Some(at), kind };
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, Some(Rc::new(Anchored { node: node.clone(), size, height, is_private })));
        }
        self.add(node, size, height);
    }

    /// Counts towards all there is.
    fn grow(&mut self, size: usize, at: Place) -> Result<(), Fault> {
        self.size += size;
        if self.size <= SIZE_MAX {
            return Ok(());
        }
        Err(refused(
            at,
            "with its aliases (*name) written out the text is too large: write out what is meant".to_owned(),
        ))
    }

    /// Puts a node into the list or mapping that is open, and counts it there.
    fn add(&mut self, node: Node, size: usize, height: usize) {
        match self.open.last_mut() {
            Some(open) => {
                open.size += size;
                open.height = open.height.max(height + 1);
                open.nodes.push(node);
            }
            None => self.outline.root = Some(node),
        }
    }

    /// Puts a node where it belongs, as a key or a value; gives the path of a value, and whether it is below `system`.
    fn place(&mut self, text: Option<&str>, at: Place, value: Option<Scalar>) -> (Option<String>, bool) {
        let depth = self.open.len();
        let Some(open) = self.open.last_mut() else {
            self.outline.is_no_mapping |= value.is_some();
            return (None, false);
        };
        match std::mem::replace(&mut open.next, Next::Key) {
            Next::Item => {
                open.next = Next::Item;
                (None, open.is_private)
            }
            Next::Key => {
                let name = match text {
                    Some(text) => Some(text.to_owned()),
                    // A list or mapping as a key is none of ours.
                    None => (depth == 1).then(String::new),
                };
                open.next = Next::Value(name.map(|name| (name, at)));
                (None, open.is_private)
            }
            Next::Value(key) => {
                let (Some(above), Some((name, at))) = (&open.path, key) else { return (None, open.is_private) };
                let path = if above.is_empty() { name } else { format!("{above}.{name}") };
                // A key of the top level that is an alias may stand for that name.
                let is_private = open.is_private || path == "system" || path.is_empty();
                let below = (depth < NOTED_DEPTH && path.len() <= NAME_MAX).then(|| path.clone());
                self.outline.keys.push(Key { path, is_section: depth == 1, at, value });
                (below, is_private)
            }
        }
    }
}

/// Keys with their values.
fn pairs(nodes: Vec<Node>) -> Vec<(Node, Node)> {
    let mut pairs = Vec::with_capacity(nodes.len() / 2);
    let mut nodes = nodes.into_iter();
    while let (Some(key), Some(value)) = (nodes.next(), nodes.next()) {
        pairs.push((key, value));
    }
    pairs
}

fn too_deep(at: Place) -> Fault {
    refused(at, format!("is nested more than {DEPTH_MAX} levels deep, which no setting is: is it the right file?"))
}

/// One event of libyaml's, as far as it matters here.
enum Event {
    StreamEnd,
    Document,
    Alias(Vec<u8>),
    Scalar(Vec<u8>, bool),
    Start { is_mapping: bool },
    End,
}

/// What all events have in common.
struct Mark {
    at: Place,
    span: Range<usize>,
    anchor: Option<Vec<u8>>,
    tag: Tag,
}

/// What a value is said to be.
#[derive(Clone, Copy, PartialEq)]
enum Tag {
    None,
    /// `!!str`.
    Text,
    /// Another of YAML's own, such as `!!int`.
    Yaml,
    /// One of nobody's, such as `!name`.
    Own,
}

impl Tag {
    fn of(tag: Option<&[u8]>) -> Self {
        match tag {
            None => Self::None,
            Some(b"tag:yaml.org,2002:str") => Self::Text,
            Some(tag) if tag.starts_with(b"tag:yaml.org,") => Self::Yaml,
            Some(_) => Self::Own,
        }
    }
}

/// libyaml's parser at work on a text.
struct Parser<'a> {
    /// In the heap, as it points to itself.
    parser: *mut unsafe_libyaml::yaml_parser_t,
    text: &'a str,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        let parser = Box::into_raw(Box::new(MaybeUninit::<unsafe_libyaml::yaml_parser_t>::uninit())).cast();
        // SAFETY: the memory is ours and large enough. The first call fills it (it fails only without memory, and then
        // Rust's allocator has ended the program already). The text lives as long as the parser.
        unsafe {
            let _ = unsafe_libyaml::yaml_parser_initialize(parser);
            unsafe_libyaml::yaml_parser_set_encoding(parser, unsafe_libyaml::YAML_UTF8_ENCODING);
            unsafe_libyaml::yaml_parser_set_input_string(parser, text.as_ptr(), text.len() as u64);
        }
        Self { parser, text }
    }

    /// The next event; stream starts and document ends, which say nothing, are passed over.
    fn next(&mut self) -> Result<(Event, Mark), Fault> {
        loop {
            let mut event = MaybeUninit::<unsafe_libyaml::yaml_event_t>::uninit();
            // SAFETY: the parser is initialised, and has not failed: nobody asks again after a fault. On success it has
            // filled the event, which is deleted once, after all has been copied out of it.
            let told = unsafe {
                if unsafe_libyaml::yaml_parser_parse(self.parser, event.as_mut_ptr()).fail {
                    return Err(self.fault());
                }
                let told = copied(&*event.as_ptr());
                unsafe_libyaml::yaml_event_delete(event.as_mut_ptr());
                told
            };
            if let Some(told) = told {
                return Ok(told);
            }
        }
    }

    fn fault(&self) -> Fault {
        // SAFETY: the parser has just failed: what went wrong stands in it, as constant texts of libyaml's or null.
        unsafe {
            let parser = &*self.parser;
            let words =
                |text: *const i8| (!text.is_null()).then(|| CStr::from_ptr(text.cast()).to_string_lossy().into_owned());
            let mut reason = words(parser.problem).unwrap_or_else(|| "cannot be read".to_owned());
            let context = words(parser.context);
            let began = context.is_some().then(|| place(parser.context_mark));
            if let Some(context) = context {
                reason = format!("{reason}, {context}");
            }
            if parser.error == unsafe_libyaml::YAML_READER_ERROR {
                // What reads for the parser knows only how many bytes it has passed.
                let at = place_of(self.text, parser.problem_offset as usize);
                return refused(at, format!("{reason}: remove the one that stands here"));
            }
            Fault { at: place(parser.problem_mark), began, reason, is_syntax: true }
        }
    }
}

impl Drop for Parser<'_> {
    fn drop(&mut self) {
        // SAFETY: made in `new`, and here for the last time: first what the parser holds, then itself.
        unsafe {
            unsafe_libyaml::yaml_parser_delete(self.parser);
            drop(Box::from_raw(self.parser.cast::<MaybeUninit<unsafe_libyaml::yaml_parser_t>>()));
        }
    }
}

/// An event with what matters of it copied out; `None` for one that says nothing.
///
/// # Safety
/// The event must be as libyaml filled it, not deleted yet.
unsafe fn copied(event: &unsafe_libyaml::yaml_event_t) -> Option<(Event, Mark)> {
    // SAFETY: the type says which member of the data is there; names in it end with a zero or are null.
    unsafe {
        let data = &event.data;
        let word = |text: *const u8| (!text.is_null()).then(|| CStr::from_ptr(text.cast()).to_bytes().to_vec());
        let (kind, anchor, tag) = match event.type_ {
            unsafe_libyaml::YAML_STREAM_START_EVENT | unsafe_libyaml::YAML_DOCUMENT_END_EVENT => return None,
            unsafe_libyaml::YAML_DOCUMENT_START_EVENT => (Event::Document, None, None),
            unsafe_libyaml::YAML_ALIAS_EVENT => (Event::Alias(word(data.alias.anchor).unwrap_or_default()), None, None),
            unsafe_libyaml::YAML_SCALAR_EVENT => {
                let scalar = data.scalar;
                let text = std::slice::from_raw_parts(scalar.value, scalar.length as usize).to_vec();
                let is_plain = scalar.style == unsafe_libyaml::YAML_PLAIN_SCALAR_STYLE;
                (Event::Scalar(text, is_plain), word(scalar.anchor), word(scalar.tag))
            }
            unsafe_libyaml::YAML_SEQUENCE_START_EVENT => {
                (Event::Start { is_mapping: false }, word(data.sequence_start.anchor), word(data.sequence_start.tag))
            }
            unsafe_libyaml::YAML_MAPPING_START_EVENT => {
                (Event::Start { is_mapping: true }, word(data.mapping_start.anchor), word(data.mapping_start.tag))
            }
            unsafe_libyaml::YAML_SEQUENCE_END_EVENT | unsafe_libyaml::YAML_MAPPING_END_EVENT => {
                (Event::End, None, None)
            }
            _ => (Event::StreamEnd, None, None),
        };
        let span = event.start_mark.index as usize..event.end_mark.index as usize;
        Some((kind, Mark { at: place(event.start_mark), span, anchor, tag: Tag::of(tag.as_deref()) }))
    }
}

fn place(mark: unsafe_libyaml::yaml_mark_t) -> Place {
    (mark.line as usize + 1, mark.column as usize + 1)
}

/// Line and column of a byte.
fn place_of(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests;
