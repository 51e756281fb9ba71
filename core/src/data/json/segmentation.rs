//! The `segmentation` field: polygons or run lengths.

use super::fields::{Field, Number, Numbers};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A segmentation as written in the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum RawSegmentation {
    /// Absent or null.
    #[default]
    Missing,
    /// Polygons `x, y, x, y, ...`; NaN stands for an element that is not a number.
    Polygons(Vec<Vec<f64>>),
    /// Run lengths.
    Rle {
        /// Height and width.
        size: Field<Numbers>,
        counts: Counts,
    },
    /// Any other value, as it is shown in messages.
    Other(String),
}

/// The `counts` of run lengths.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Counts {
    #[default]
    Missing,
    /// COCO's compressed text.
    Compressed(String),
    Runs(Vec<u32>),
    Other,
}

impl<'de> Deserialize<'de> for RawSegmentation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SegmentationVisitor)
    }
}

struct SegmentationVisitor;

impl<'de> Visitor<'de> for SegmentationVisitor {
    type Value = RawSegmentation;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("polygons or run lengths")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(RawSegmentation::Missing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(RawSegmentation::Other(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(RawSegmentation::Other(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(RawSegmentation::Other(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(RawSegmentation::Other(value.to_string()))
    }

    fn visit_str<E>(self, _text: &str) -> Result<Self::Value, E> {
        Ok(RawSegmentation::Other("a text".into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let (mut polygons, mut other) = (Vec::new(), None);
        while let Some(part) = seq.next_element::<Part>()? {
            match part {
                Part::Polygon(polygon) => polygons.push(polygon),
                Part::Number => {
                    other = Some("a list of numbers; write a list of polygons, [[x1, y1, ...]]")
                }
                Part::Points => {
                    other = Some(
                        "a list of point pairs; write a flat list, x and y alternating, [[x1, y1, ...]]",
                    )
                }
                Part::Object => other = Some("a list of objects; write the object alone"),
                Part::Other => other = Some("a list of something other than polygons"),
            }
        }
        Ok(match other {
            Some(shown) => RawSegmentation::Other(shown.into()),
            None => RawSegmentation::Polygons(polygons),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut size, mut counts) = (Field::Missing, Counts::Missing);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "size" => size = map.next_value()?,
                "counts" => counts = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(RawSegmentation::Rle { size, counts })
    }
}

/// An element of a list that should hold polygons.
enum Part {
    Polygon(Vec<f64>),
    Number,
    Points,
    Object,
    Other,
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PartVisitor)
    }
}

struct PartVisitor;

impl<'de> Visitor<'de> for PartVisitor {
    type Value = Part;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a polygon")
    }

    fn visit_unit<E>(self) -> Result<Part, E> {
        Ok(Part::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Part, E> {
        Ok(Part::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Part, E> {
        Ok(Part::Number)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Part, E> {
        Ok(Part::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Part, E> {
        Ok(Part::Number)
    }

    fn visit_str<E>(self, _: &str) -> Result<Part, E> {
        Ok(Part::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Part, A::Error> {
        let (mut numbers, mut nested) = (Vec::new(), false);
        while let Some(number) = seq.next_element::<Field<Number>>()? {
            nested |= matches!(&number, Field::Bad(shown) if shown == "a list");
            numbers.push(number.value().map_or(f64::NAN, |number| number.0));
        }
        Ok(if nested {
            Part::Points
        } else {
            Part::Polygon(numbers)
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Part::Object)
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountsVisitor)
    }
}

struct CountsVisitor;

impl<'de> Visitor<'de> for CountsVisitor {
    type Value = Counts;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("run lengths")
    }

    fn visit_unit<E>(self) -> Result<Counts, E> {
        Ok(Counts::Missing)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Counts, E> {
        Ok(Counts::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Counts, E> {
        Ok(Counts::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Counts, E> {
        Ok(Counts::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Counts, E> {
        Ok(Counts::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Counts, E> {
        Ok(Counts::Compressed(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Counts, A::Error> {
        let (mut runs, mut good) = (Vec::new(), true);
        while let Some(number) = seq.next_element::<Field<super::fields::Id>>()? {
            let run = number.value().and_then(|run| u32::try_from(run.0).ok());
            good &= run.is_some();
            runs.push(run.unwrap_or_default());
        }
        Ok(if good {
            Counts::Runs(runs)
        } else {
            Counts::Other
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Counts, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Counts::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> RawSegmentation {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn polygons_and_run_lengths_are_distinguished() {
        let polygons = RawSegmentation::Polygons(vec![vec![1.0, 2.0], vec![3.5]]);
        assert_eq!(read("[[1, \"2\"], [3.5]]"), polygons);
        assert!(
            matches!(read("[1, 2, 3, 4, 5, 6]"), RawSegmentation::Other(text) if text.contains("numbers"))
        );
        assert!(
            matches!(read("[[[1, 2], [3, 4]]]"), RawSegmentation::Other(text) if text.contains("pairs"))
        );
        assert!(
            matches!(read("[{\"size\": 1}]"), RawSegmentation::Other(text) if text.contains("objects"))
        );
        let RawSegmentation::Rle { size, counts } =
            read("{\"counts\": [1.0, 2], \"size\": [3.0, 1]}")
        else {
            panic!("run lengths");
        };
        assert_eq!(
            (size, counts),
            (
                Field::Value(Numbers(vec![3.0, 1.0])),
                Counts::Runs(vec![1, 2])
            )
        );
        assert_eq!(read("null"), RawSegmentation::Missing);
        let negative = read("{\"counts\": [-1]}");
        assert!(matches!(
            negative,
            RawSegmentation::Rle {
                counts: Counts::Other,
                ..
            }
        ));
    }
}
