//! JSON scalars as annotation tools write them: numbers in quotes, integral floats, booleans, nulls.
//!
//! Parsing a field never fails. A value without a certain meaning is kept as text, so that the
//! error can name the annotation, the field and the value.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// The value of a JSON field.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Field<T> {
    /// The field is absent or null.
    #[default]
    Missing,
    /// An understood value.
    Value(T),
    /// Any other value, as it is shown in messages.
    Bad(String),
}

impl<T> Field<T> {
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            _ => None,
        }
    }

    /// The value; the error has the name of the field and its text.
    pub fn required(self, name: &str) -> Result<T, String> {
        match self {
            Self::Value(value) => Ok(value),
            Self::Missing => Err(format!("`{name}` is missing")),
            Self::Bad(shown) => Err(format!("`{name}` is {shown}")),
        }
    }

    /// The value, or `None` if the field is missing; the error has the name of the field and its text.
    pub fn optional(self, name: &str) -> Result<Option<T>, String> {
        match self {
            Self::Missing => Ok(None),
            other => other.required(name).map(Some),
        }
    }
}

/// A scalar that is read from several kinds of JSON values.
pub(crate) trait Scalar: Sized {
    fn from_f64(value: f64) -> Option<Self>;

    fn from_u64(value: u64) -> Option<Self> {
        Self::from_f64(value as f64)
    }

    fn from_bool(_value: bool) -> Option<Self> {
        None
    }

    fn from_text(text: &str) -> Option<Self>;
}

/// A non-negative integer id; integral floats and digits in quotes are accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Id(pub u64);

/// From here on, floats do not represent every integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Scalar for Id {
    fn from_u64(value: u64) -> Option<Self> {
        Some(Self(value))
    }

    fn from_f64(value: f64) -> Option<Self> {
        let exact = (0.0..=EXACT).contains(&value) && value.fract() == 0.0;
        exact.then_some(Self(value as u64))
    }

    fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok().map(Self))?
    }
}

/// A number; digits in quotes are accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Number(pub f64);

impl Scalar for Number {
    fn from_f64(value: f64) -> Option<Self> {
        Some(Self(value))
    }

    fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        numeric.then(|| text.parse().ok().map(Self))?
    }
}

/// A flag: 0 or 1, true or false, in quotes or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Flag(pub bool);

impl Scalar for Flag {
    fn from_f64(value: f64) -> Option<Self> {
        [0.0, 1.0].contains(&value).then_some(Self(value == 1.0))
    }

    fn from_bool(value: bool) -> Option<Self> {
        Some(Self(value))
    }

    fn from_text(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "0" | "false" => Some(Self(false)),
            "1" | "true" => Some(Self(true)),
            _ => None,
        }
    }
}

/// A text; numbers are accepted, for class names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Text(pub String);

impl Scalar for Text {
    fn from_u64(value: u64) -> Option<Self> {
        Some(Self(value.to_string()))
    }

    fn from_f64(value: f64) -> Option<Self> {
        Some(Self(value.to_string()))
    }

    fn from_bool(value: bool) -> Option<Self> {
        Some(Self(value.to_string()))
    }

    fn from_text(text: &str) -> Option<Self> {
        Some(Self(text.into()))
    }
}

impl<'de, T: Scalar> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor(PhantomData))
    }
}

struct FieldVisitor<T>(PhantomData<T>);

fn field<T>(value: Option<T>, shown: impl fmt::Display) -> Field<T> {
    match value {
        Some(value) => Field::Value(value),
        None => Field::Bad(shortened(&shown.to_string())),
    }
}

/// Truncates a text to 60 characters.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
}

impl<'de, T: Scalar> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Field::Missing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(field(T::from_bool(value), value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(field(T::from_u64(value), value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(field(T::from_f64(value as f64), value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(field(T::from_f64(value), value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(field(T::from_text(text), format_args!("{text:?}")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Bad("a list".into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Bad("an object".into()))
    }
}

/// A list of numbers, such as a box; NaN stands for an element that is not a number.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Numbers(pub Vec<f64>);

impl<'de> Deserialize<'de> for Field<Numbers> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumbersVisitor)
    }
}

struct NumbersVisitor;

impl<'de> Visitor<'de> for NumbersVisitor {
    type Value = Field<Numbers>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of numbers")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Field::Missing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Field::Bad(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Field::Bad(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Field::Bad(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Field::Bad(value.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Field::Bad(shortened(&format!("{text:?}"))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = seq.next_element::<Field<Number>>()? {
            numbers.push(number.value().map_or(f64::NAN, |number| number.0));
        }
        Ok(Field::Value(Numbers(numbers)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Bad("an object".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(json: &str) -> Field<T>
    where
        Field<T>: for<'de> Deserialize<'de>,
    {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn certain_values_are_understood_and_others_are_shown() {
        for text in ["7", "7.0", "\"7\"", "\" 7 \""] {
            assert_eq!(read::<Id>(text), Field::Value(Id(7)), "{text}");
        }
        for (text, shown) in [
            ("-7", "-7"),
            ("7.5", "7.5"),
            ("\"img_7\"", "\"img_7\""),
            ("[7]", "a list"),
        ] {
            assert_eq!(read::<Id>(text), Field::Bad(shown.into()), "{text}");
        }
        assert_eq!(
            read::<Id>("18446744073709551615"),
            Field::Value(Id(u64::MAX))
        );
        assert_eq!(read::<Id>("null"), Field::Missing);
        for text in ["false", "0", "0.0", "\"0\"", "\"False\""] {
            assert_eq!(read::<Flag>(text), Field::Value(Flag(false)), "{text}");
        }
        assert_eq!(read::<Flag>("2"), Field::Bad("2".into()));
        assert_eq!(read::<Number>("\"-1.5e1\""), Field::Value(Number(-15.0)));
        assert_eq!(read::<Number>("\"nan\""), Field::Bad("\"nan\"".into()));
        assert_eq!(read::<Number>("true"), Field::Bad("true".into()));
        assert_eq!(
            read::<Numbers>("[1, \"2\", 3.5]"),
            Field::Value(Numbers(vec![1.0, 2.0, 3.5]))
        );
        assert_eq!(
            read::<Numbers>("{\"x\": 1}"),
            Field::Bad("an object".into())
        );
    }
}
