//! What it would cost to hold a request, told from its bytes before any of it is made.
//!
//! On the wire an empty message is two bytes; in memory it is a structure of some hundred, and a list of them grows by
//! doubling. So a request within every limit on bytes could take thirty times as much memory. The bytes are walked along
//! the schema that the descriptors give, and every field is charged what it will take.

use std::{collections::HashMap, sync::LazyLock};

use prost::{Message as _, Name, encoding::decode_varint};
use prost_types::{DescriptorProto, FileDescriptorSet};

/// Requests that cannot cost much, bytes: they are not looked at.
const HARMLESS: usize = 4096;
/// What the fields of a request may cost besides their own bytes.
const BUDGET: usize = 2 << 20;
/// What a string, bytes or a number costs.
const VALUE: usize = 32;
/// What an entry of a map costs, its key and value included; they are charged a little, so that none is free.
const ENTRY: usize = 96;
const ENTRY_VALUE: usize = 8;
/// What a message costs besides its fields.
const MESSAGE: usize = 256;

static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    // Those built into the program can be read, or reflection could not have started.
    Shapes::new(&FileDescriptorSet::decode(super::DESCRIPTORS).unwrap_or_default())
});

/// Whether a request, if it can be read at all, is worth its bytes.
pub fn is_modest<M: Name>(bytes: &[u8]) -> bool {
    // Its name is a string that is made each time: not for those that nobody looks at.
    bytes.len() <= HARMLESS || SHAPES.weigh(&M::full_name(), bytes, &mut BUDGET.clone())
}

#[derive(Debug, Default)]
struct Shapes(HashMap<String, Shape>);

/// A message's fields that are messages, by number: their type.
#[derive(Debug, Default)]
struct Shape {
    cost: usize,
    /// What each of its fields costs that is no message.
    value: usize,
    inner: HashMap<u64, String>,
}

impl Shapes {
    fn new(files: &FileDescriptorSet) -> Self {
        let mut shapes = Self::default();
        for file in &files.file {
            file.message_type.iter().for_each(|message| shapes.add(file.package(), message));
        }
        shapes
    }

    fn add(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        let is_entry = message.options.as_ref().is_some_and(|options| options.map_entry());
        let typed = message.field.iter().filter(|field| !field.type_name().is_empty());
        let number = |number: i32| u64::try_from(number).unwrap_or_default();
        // Of an enum as well: there is no such message, and so it is a value.
        let inner = typed.map(|field| (number(field.number()), field.type_name().trim_start_matches('.').to_owned()));
        let (cost, value) = if is_entry { (ENTRY, ENTRY_VALUE) } else { (MESSAGE, VALUE) };
        let shape = Shape { cost, value, inner: inner.collect() };
        message.nested_type.iter().for_each(|nested| self.add(&name, nested));
        self.0.insert(name, shape);
    }

    /// False once the budget is overdrawn. What cannot be read is worth nothing: its reader will say so at the same place.
    fn weigh(&self, name: &str, mut bytes: &[u8], budget: &mut usize) -> bool {
        let shape = self.0.get(name);
        while !bytes.is_empty() {
            let Ok(key) = decode_varint(&mut bytes) else { return true };
            let inner = shape.and_then(|shape| shape.inner.get(&(key >> 3)));
            let inner = inner.and_then(|inner| Some((inner, self.0.get(inner)?)));
            let value = shape.map_or(VALUE, |shape| shape.value);
            let cost = inner.map_or(value, |(_, shape)| shape.cost);
            let Some(left) = budget.checked_sub(cost) else { return false };
            *budget = left;
            let length = match key & 7 {
                0 => decode_varint(&mut bytes).map(|_| 0),
                1 => Ok(8),
                2 => decode_varint(&mut bytes),
                5 => Ok(4),
                // A group's begin and end: its reader passes over what is between; here it is charged as if it did not.
                3 | 4 => Ok(0),
                _ => return true,
            };
            let length = length.ok().and_then(|length| usize::try_from(length).ok());
            let Some((value, rest)) = length.and_then(|length| bytes.split_at_checked(length)) else { return true };
            bytes = rest;
            if let Some((inner, _)) = inner
                && !self.weigh(inner, value, budget)
            {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{Hello, NewEvent, PublishBatchRequest, StreamDataRequest, stream_data_request::Frame};

    fn batch(events: Vec<NewEvent>) -> bool {
        let request = PublishBatchRequest { topic: "t".into(), events };
        is_modest::<PublishBatchRequest>(&request.encode_to_vec())
    }

    #[test]
    fn a_full_batch_is_modest_and_empty_events_without_number_are_not() {
        let headers = (0..10).map(|n| (format!("header-{n}"), "value".to_owned())).collect();
        let event = NewEvent { payload: "payload".into(), key: "key".into(), headers, ..NewEvent::default() };
        assert!(batch(vec![event; 1000]));
        assert!(batch(vec![NewEvent { payload: vec![0; 5 << 20].into(), ..NewEvent::default() }]));
        assert!(!batch(vec![NewEvent::default(); 100_000]));
    }

    #[test]
    fn a_frame_of_many_strings_or_headers_is_not_modest() {
        let frame = |frame| StreamDataRequest { request_id: 1, frame: Some(frame) }.encode_to_vec();
        let hello = frame(Frame::Hello(Hello { features: vec![String::new(); 1 << 20], ..Hello::default() }));
        assert!(!is_modest::<StreamDataRequest>(&hello));
        let headers = (0..40_000).map(|n| (n.to_string(), String::new())).collect();
        let event = Some(NewEvent { headers, ..NewEvent::default() });
        let publish = crate::proto::v1::Publish { event, ..Default::default() };
        assert!(!is_modest::<StreamDataRequest>(&frame(Frame::Publish(publish.into()))));
    }

    #[test]
    fn what_its_reader_passes_over_hides_nothing() {
        let bomb = [0x12, 0].repeat(100_000);
        // Field 15, a group that is never closed; and one that is.
        for hidden in [[&[0x7b][..], &bomb].concat(), [&[0x7b, 0x7c][..], &bomb].concat()] {
            assert!(!is_modest::<PublishBatchRequest>(&hidden));
        }
        assert!(is_modest::<PublishBatchRequest>(&[0xff; 10_000]), "what cannot be read costs nothing");
    }
}
