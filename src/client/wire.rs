//! Between the wire and the library's own words.

use std::error::Error as _;

use super::{Error, ErrorKind};

/// A transport failure with the whole chain of its causes: the outermost says only "transport error".
pub(super) fn transport_error(error: &tonic::transport::Error) -> Error {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Error::new(ErrorKind::Connect, text)
}
