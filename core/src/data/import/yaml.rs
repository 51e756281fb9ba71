//! A YAML reader for configuration files: bounded in size and depth, without anchors and aliases.

use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::TScalarStyle;

/// A YAML value; scalars keep their text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// `data.yaml` files are a few kilobytes; those of LVIS with 1203 names take 40.
const LONGEST: usize = 1 << 20;
const DEEPEST: usize = 64;

/// Parses the first document.
pub(super) fn parse(text: &str) -> Result<Node, String> {
    if text.len() > LONGEST {
        return Err("more than 1 MB of YAML; is it the right file?".into());
    }
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<Open> = Vec::new();
    // Events are read one by one: the library's own loader recurses without a bound and copies aliases.
    loop {
        let (event, mark) = parser.next_token().map_err(|error| error.to_string())?;
        let fault = |reason: &str| Err(format!("{reason} at line {}", mark.line()));
        let done = match event {
            Event::Alias(_) => return fault("aliases (*name) are not read"),
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() == DEEPEST => {
                return fault("more than 64 levels of nesting");
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                None
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Vec::new(), None));
                None
            }
            Event::Scalar(text, style, ..) => Some(match (style, text.as_str()) {
                (TScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Node::Null,
                _ => Node::Scalar(text),
            }),
            Event::SequenceEnd | Event::MappingEnd => open.pop().map(Open::close),
            Event::DocumentEnd | Event::StreamEnd => return Ok(Node::Null),
            _ => None,
        };
        let Some(node) = done else { continue };
        match open.last_mut() {
            Some(container) => container
                .add(node)
                .map_err(|reason| format!("{reason} at line {}", mark.line()))?,
            None => return Ok(node),
        }
    }
}

/// A list or map that has not ended.
enum Open {
    List(Vec<Node>),
    Map(Vec<(String, Node)>, Option<String>),
}

impl Open {
    fn add(&mut self, node: Node) -> Result<(), String> {
        match self {
            Self::List(list) => list.push(node),
            Self::Map(map, key @ None) => match node {
                Node::Scalar(text) => *key = Some(text),
                Node::Null => *key = Some("null".into()),
                _ => return Err(format!("a key that is no text, after {} others", map.len())),
            },
            Self::Map(map, key) => map.extend(key.take().map(|key| (key, node))),
        }
        Ok(())
    }

    fn close(self) -> Node {
        match self {
            Self::List(list) => Node::List(list),
            Self::Map(map, _) => Node::Map(map),
        }
    }
}

impl Node {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match self {
            Self::Map(map) => map
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Scalar(text) => Some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_lists_and_scalars_are_read() {
        let node = parse("a: 1\nb: [x, 'no', ~]\nc:\n  0: y\n").unwrap();
        assert_eq!(node.get("a").and_then(Node::text), Some("1"));
        let list = Node::List(vec![
            Node::Scalar("x".into()),
            Node::Scalar("no".into()),
            Node::Null,
        ]);
        assert_eq!(node.get("b"), Some(&list));
        assert_eq!(
            node.get("c").and_then(|c| c.get("0")).and_then(Node::text),
            Some("y")
        );
        assert_eq!(parse("").unwrap(), Node::Null);
    }

    #[test]
    fn small_files_cannot_take_much() {
        let laughs: String = (1..30).fold("a0: &a0 [x]\n".into(), |text, i| {
            let names = vec![format!("*a{}", i - 1); 9].join(",");
            format!("{text}a{i}: &a{i} [{names}]\n")
        });
        assert!(parse(&laughs).unwrap_err().contains("aliases"));
        assert!(
            parse(&"- ".repeat(100_000))
                .unwrap_err()
                .contains("nesting")
        );
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"a".repeat(2 << 20)).unwrap_err().contains("1 MB"));
    }
}
