//! `TopicService/GetPresence`.

use super::stored;
use crate::{
    error::Failure,
    hub::Hub,
    log::Keys,
    proto::v1::{GetPresenceRequest, GetPresenceResponse, Member},
    service::page,
    types::Topic,
};

/// A page of the members of a topic.
pub(super) async fn members(hub: &Hub, request: &GetPresenceRequest) -> Result<GetPresenceResponse, Failure> {
    let Some(line) = hub.presence(&Topic::parse(&request.topic)?).await? else {
        return Ok(GetPresenceResponse::default());
    };
    let size = page::size(request.page_size);
    let log = line.log().read();
    let Some(keys) = log.keys() else { return Ok(GetPresenceResponse::default()) };
    let mut members = page_of(keys, &request.page_token, size + 1)?;
    let next_page_token = page::cut(&mut members, size, name);
    Ok(GetPresenceResponse { members, next_page_token, member_count: keys.len() as u64 })
}

fn page_of(keys: &Keys, after: &str, limit: usize) -> Result<Vec<Member>, Failure> {
    let rows = keys.list(after.as_bytes(), limit).into_iter();
    rows.map(|(key, since, record)| {
        let info = stored(record)?.payload;
        // The server made the key of two names that hold no space.
        let key = String::from_utf8_lossy(key);
        let (client_id, session_id) = key.split_once(' ').unwrap_or((&key, ""));
        let (client_id, session_id) = (client_id.to_owned(), session_id.to_owned());
        Ok(Member { client_id, session_id, info, since_us: since.0 })
    })
    .collect()
}

/// The key of a member: what pages go on after.
fn name(member: &Member) -> String {
    format!("{} {}", member.client_id, member.session_id)
}
