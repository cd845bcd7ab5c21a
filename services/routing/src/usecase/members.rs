//! Who is a member of a conversation, as the directory has it.

use std::sync::Arc;

use tandem_kernel::{
    Address, Code, ConversationId,
    event::{Member, Role},
};
use tandem_proto::{client::Members, routing::MembersResponse};

use crate::{domain::item::Conversation, error::Error, usecase::directory::Directory};

/// The members of `conversation`, if `user` (when named) is one.
pub async fn members(
    directory: &Arc<Directory>,
    partitions: u32,
    conversation: &str,
    user: &str,
) -> Result<MembersResponse, Error> {
    const OUTSIDER: Error = Error::Refused(Code::NotAMember, "not a member of the conversation");
    let id = ConversationId::parse(conversation)
        .map_err(|_| Error::Refused(Code::InvalidArgument, "no such form of a conversation id"))?;
    let user = match user {
        "" => None,
        text => Some(Address::parse(text).map_err(|_| OUTSIDER)?),
    };
    let conversation = Conversation::new(id, partitions);
    let id = conversation.id.as_str().to_owned();
    if let Some((a, b)) = &conversation.pair {
        if user.is_some_and(|u| conversation.peer_of(&u).is_none()) {
            return Err(OUTSIDER);
        }
        let member = |a: &Address| Member {
            user: a.as_str().into(),
            role: Role::Member.into(),
        };
        let members = Members {
            conversation: id,
            title: String::new(),
            members: vec![member(a), member(b)],
        };
        return Ok(MembersResponse {
            members: Some(members),
            as_of_seq: 0,
            joined_seqs: vec![0, 0],
        });
    }
    // a person sees at once what they have changed, services what is certain
    let (base, view) = directory.both(&conversation).await?;
    let as_of_seq = base.as_of.0;
    let group = if user.is_some() { view } else { base };
    match user {
        Some(user) if !group.is_member(&user) => return Err(OUTSIDER),
        None if !group.exists() => {
            return Err(Error::Refused(Code::NotFound, "no such conversation"));
        }
        _ => {}
    }
    let member = |(a, m): (&Address, &tandem_kernel::group::Member)| Member {
        user: a.as_str().into(),
        role: m.role.into(),
    };
    let members = group.members.iter().map(member).collect();
    let joined_seqs = group.members.values().map(|m| m.joined.0).collect();
    let members = Members {
        conversation: id,
        title: group.title.clone(),
        members,
    };
    Ok(MembersResponse {
        members: Some(members),
        as_of_seq,
        joined_seqs,
    })
}
