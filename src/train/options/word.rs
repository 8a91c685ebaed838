//! Words of an enumeration on the command line.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The words of an enumeration, as its `Deserialize` lists them, without those that it only accepts: aliases.
fn words<T: Serialize + DeserializeOwned>() -> Vec<&'static str> {
    use serde::de::value::Error as Refused;
    struct Ask<'a>(&'a mut &'static [&'static str]);
    impl<'de> serde::Deserializer<'de> for Ask<'_> {
        type Error = Refused;

        fn deserialize_any<V: serde::de::Visitor<'de>>(self, _: V) -> Result<V::Value, Refused> {
            Err(serde::de::Error::custom("not an enumeration"))
        }

        fn deserialize_enum<V: serde::de::Visitor<'de>>(
            self, _: &'static str, words: &'static [&'static str], visitor: V,
        ) -> Result<V::Value, Refused> {
            *self.0 = words;
            self.deserialize_any(visitor)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map struct identifier ignored_any
        }
    }
    let mut words: &[&str] = &[];
    let _ = T::deserialize(Ask(&mut words)); // always an error: it only asks
    let writes = |word: &str| {
        let value = serde_json::Value::String(word.into());
        serde_json::from_value::<T>(value.clone()).is_ok_and(|it| serde_json::to_value(it).is_ok_and(|it| it == value))
    };
    words.iter().copied().filter(|word| writes(word)).collect()
}

/// Parses a word of an enumeration on the command line: with hyphens or underscores, under its name or an alias.
pub(crate) const fn word<T>() -> Word<T> {
    Word(std::marker::PhantomData)
}

/// Parser of a word of the enumeration `T`.
#[derive(Debug, Clone, Copy)]
pub struct Word<T>(std::marker::PhantomData<fn() -> T>);

impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> clap::builder::TypedValueParser for Word<T> {
    type Value = T;

    fn parse_ref(
        &self, cmd: &clap::Command, arg: Option<&clap::Arg>, value: &std::ffi::OsStr,
    ) -> Result<T, clap::Error> {
        let text = value.to_string_lossy();
        let spellings = [text.to_string(), text.replace('-', "_"), text.replace('_', "-")];
        let read = |word: String| serde_json::from_value(serde_json::Value::String(word)).ok();
        if let Some(found) = spellings.into_iter().find_map(read) {
            return Ok(found);
        }
        let known = clap::builder::PossibleValuesParser::new(words::<T>());
        known.parse_ref(cmd, arg, value)?;
        Err(clap::Error::new(clap::error::ErrorKind::InvalidValue).with_cmd(cmd))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = clap::builder::PossibleValue> + '_>> {
        Some(Box::new(words::<T>().into_iter().map(clap::builder::PossibleValue::new)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Target;
    use crate::train::settings::ScheduleKind;

    #[test]
    fn words_are_listed_without_aliases() {
        assert_eq!(words::<Target>(), ["normalized", "raw"]);
        assert_eq!(words::<ScheduleKind>(), ["cosine", "epoch", "map_repo", "linear", "multi_step"]);
    }
}
