//! Frames with a token in them, as they may be shown.

use std::fmt;

use super::v1::{Authenticate, Hello};

/// What is shown of a token: whether there is one.
fn shown(token: &str) -> &'static str {
    if token.is_empty() { "" } else { "<redacted>" }
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version_min, version_max, features, client_id, agent, token } = self;
        f.debug_struct("Hello")
            .field("version_min", version_min)
            .field("version_max", version_max)
            .field("features", features)
            .field("client_id", client_id)
            .field("agent", agent)
            .field("token", &shown(token))
            .finish()
    }
}

impl fmt::Debug for Authenticate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticate").field("token", &shown(&self.token)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{StreamDataRequest, stream_data_request::Frame};

    #[test]
    fn a_frame_shows_that_it_has_a_token_and_not_which() {
        let hello = Hello { client_id: "alice".into(), token: "hunter2".into(), ..Hello::default() };
        let authenticate = Authenticate { token: "hunter2".into() };
        for frame in [Frame::Hello(hello), Frame::Authenticate(authenticate)] {
            let text = format!("{:?}", StreamDataRequest { request_id: 1, frame: Some(frame) });
            assert!(text.contains("<redacted>") && !text.contains("hunter2"), "{text}");
        }
        assert!(format!("{:?}", Hello::default()).contains("token: \"\""));
    }
}
