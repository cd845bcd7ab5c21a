//! What people and conversations are called, and who is meant by a name.

use tandem_client::Core;
use tandem_kernel::{Address, ConversationId};
use tandem_proto::client::{Contact, Status};

use super::text::one_line;

/// A person's short unambiguous name: the local part in one's own domain, else the address.
pub fn handle(core: &Core, address: &str) -> String {
    let mine = core.me().and_then(|me| me.split_once('@'));
    match (address.split_once('@'), mine) {
        (Some((local, domain)), Some((_, own))) if domain == own => local.to_owned(),
        _ => one_line(address),
    }
}

/// The relation with a person.
pub fn contact<'a>(core: &'a Core, address: &str) -> Option<&'a Contact> {
    core.contacts().find(|c| c.user == address)
}

/// A person's name to show.
pub fn person(core: &Core, address: &str) -> String {
    match contact(core, address).map(|c| one_line(c.name.trim())) {
        Some(name) if !name.is_empty() => name,
        _ => handle(core, address),
    }
}

/// The other person of a one-to-one conversation.
pub fn peer(core: &Core, conversation: &str) -> Option<String> {
    let me = Address::parse(core.me()?).ok()?;
    Some(
        ConversationId::parse(conversation)
            .ok()?
            .peer_of(&me)?
            .to_string(),
    )
}

/// Whether it is a group's.
pub fn is_group(conversation: &str) -> bool {
    conversation.starts_with("g:")
}

/// A conversation's name: `who` names the other person of a one-to-one.
pub fn conversation(core: &Core, id: &str, who: fn(&Core, &str) -> String) -> String {
    if let Some(peer) = peer(core, id) {
        return who(core, &peer);
    }
    match core.conversation(id).map(|c| one_line(c.title())) {
        Some(title) if !title.is_empty() => title,
        _ if is_group(id) => "a group".into(),
        _ => one_line(id),
    }
}

/// The address that is meant by a contact's name, a local part of one's own domain, or an address.
pub fn resolve(core: &Core, who: &str) -> Option<String> {
    let who = who.trim().trim_start_matches('@');
    if let Ok(address) = Address::parse(who) {
        return Some(address.to_string());
    }
    let lower = who.to_lowercase();
    let local = core.me().and_then(|me| {
        let (_, domain) = me.split_once('@')?;
        Address::parse(&format!("{who}@{domain}")).ok()
    });
    let known = |address: &Address| contact(core, address.as_str()).is_some();
    if let Some(local) = local.as_ref().filter(|a| known(a)) {
        return Some(local.to_string());
    }
    let mut named = core.contacts().filter(|c| c.name.to_lowercase() == lower);
    match (named.next(), named.next()) {
        (Some(contact), None) => Some(contact.user.clone()),
        _ => local.map(|a| a.to_string()),
    }
}

/// The words for a status.
pub fn status(status: Status) -> &'static str {
    match status {
        Status::Unspecified | Status::Online => "online",
        Status::Busy => "busy",
        Status::BeRightBack => "be right back",
        Status::Away => "away",
        Status::OnThePhone => "on the phone",
        Status::OutToLunch => "out to lunch",
        Status::AppearOffline => "invisible",
        Status::Offline => "offline",
    }
}
