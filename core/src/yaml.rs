//! YAML from untrusted files.

use crate::budget::check_depth;
use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::{Yaml, YamlLoader};

/// The first document of a text; null if there is none. Tags, such as `!!python/tuple`, are never acted upon.
pub(crate) fn load(text: &str) -> Result<Yaml, String> {
    check_events(text)?;
    let documents = YamlLoader::load_from_str(text).map_err(|error| error.to_string())?;
    Ok(documents.into_iter().next().unwrap_or(Yaml::Null))
}

/// Rejects what the loader copies or recurses into without a limit: aliases, of which a few hundred bytes expand to
/// gigabytes, and deep nesting. The loader's events are read one by one.
fn check_events(text: &str) -> Result<(), String> {
    let mut parser = Parser::new_from_str(text);
    let mut depth = 0;
    loop {
        let (event, place) = parser.next_token().map_err(|error| error.to_string())?;
        let at = |reason: &str| format!("line {}: {reason}", place.line());
        match event {
            Event::Alias(_) => {
                return Err(at("aliases (`*name`) are not read; write the value out"));
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                depth += 1;
                check_depth(depth).map_err(|error| at(&error.to_string()))?;
            }
            Event::SequenceEnd | Event::MappingEnd => depth -= 1,
            Event::StreamEnd => return Ok(()),
            _ => {}
        }
    }
}
