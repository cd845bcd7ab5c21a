//! How a user's status follows from the sessions: pure, and the same for every adapter.

use std::time::Duration;

use tandem_kernel::SessionId;
use tandem_proto::client::{DeviceClass, Status};

use crate::DAMPING;

/// A session as the derivation sees it. Only those of edges whose lease lives are given to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing<'a> {
    /// Its id.
    pub id: SessionId,
    /// The status that the person chose on it.
    pub status: Status,
    /// Personal message.
    pub message: &'a str,
    /// Its device's class.
    pub class: DeviceClass,
    /// How long it has been detached (or removed); `None`: it is attached.
    pub detached_for: Option<Duration>,
}

impl Standing<'_> {
    /// Whether it counts for the status.
    pub fn counts(&self) -> bool {
        self.detached_for.is_none_or(|d| d < DAMPING)
    }
}

/// A derived status: a [`crate::UserStatus`] without its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Derived<'a> {
    /// What others see.
    pub status: Status,
    /// The personal message of the session that gave it; empty when offline.
    pub message: &'a str,
    /// That session's class; unspecified when offline.
    pub class: DeviceClass,
    /// The status may change by itself this much later, when the next detached session stops
    /// counting; `None`: it will not.
    pub again_in: Option<Duration>,
}

/// Places in the order of availability, the most available first. `None`: not available at all.
pub fn availability(status: Status) -> Option<u8> {
    match status {
        Status::Online => Some(0),
        Status::Busy => Some(1),
        Status::OnThePhone => Some(2),
        Status::BeRightBack => Some(3),
        Status::OutToLunch => Some(4),
        Status::Away => Some(5),
        Status::AppearOffline | Status::Offline | Status::Unspecified => None,
    }
}

/// The status that results from a user's sessions. Of equally available ones an attached one gives it
/// before a detached one, then the lower class (PC, mobile, portal), then the lower id.
pub fn derive<'a>(sessions: impl IntoIterator<Item = Standing<'a>>) -> Derived<'a> {
    let mut hidden = false;
    let mut again_in: Option<Duration> = None;
    let mut best: Option<((u8, bool, i32, SessionId), Standing<'a>)> = None;
    for s in sessions.into_iter().filter(Standing::counts) {
        if let Some(d) = s.detached_for {
            let rest = DAMPING.saturating_sub(d);
            again_in = Some(again_in.map_or(rest, |a| a.min(rest)));
        }
        hidden |= s.status == Status::AppearOffline;
        if let Some(place) = availability(s.status) {
            let rank = (place, s.detached_for.is_some(), s.class as i32, s.id);
            if best.as_ref().is_none_or(|(b, _)| rank < *b) {
                best = Some((rank, s));
            }
        }
    }
    match best {
        Some((_, s)) if !hidden => Derived {
            status: s.status,
            message: s.message,
            class: s.class,
            again_in,
        },
        _ => Derived {
            status: Status::Offline,
            message: "",
            class: DeviceClass::Unspecified,
            again_in,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(id: u128, status: Status, class: DeviceClass) -> Standing<'static> {
        Standing {
            id: SessionId(id),
            status,
            message: "m",
            class,
            detached_for: None,
        }
    }

    fn off_for(mut s: Standing<'static>, ms: u64) -> Standing<'static> {
        s.detached_for = Some(Duration::from_millis(ms));
        s
    }

    #[test]
    fn without_sessions_one_is_offline_for_good() {
        let d = derive([]);
        assert_eq!(
            (d.status, d.message, d.again_in),
            (Status::Offline, "", None)
        );
    }

    #[test]
    fn the_most_available_session_gives_the_status_whatever_the_order() {
        use Status::{Away, BeRightBack, Busy, OnThePhone, Online, OutToLunch};
        let order = [Online, Busy, OnThePhone, BeRightBack, OutToLunch, Away];
        for (i, better) in order.iter().enumerate() {
            for worse in &order[i + 1..] {
                let (a, b) = (
                    on(1, *worse, DeviceClass::Pc),
                    on(2, *better, DeviceClass::Mobile),
                );
                assert_eq!(derive([a, b]).status, *better);
                assert_eq!(derive([b, a]).status, *better);
                assert_eq!(derive([b, a]).class, DeviceClass::Mobile);
            }
        }
    }

    #[test]
    fn appear_offline_wins_while_it_counts() {
        let hidden = on(1, Status::AppearOffline, DeviceClass::Mobile);
        let online = on(2, Status::Online, DeviceClass::Pc);
        assert_eq!(derive([online, hidden]).status, Status::Offline);
        assert_eq!(derive([online, hidden]).message, "");
        assert_eq!(
            derive([online, off_for(hidden, 4_999)]).status,
            Status::Offline
        );
        assert_eq!(
            derive([online, off_for(hidden, 5_000)]).status,
            Status::Online
        );
    }

    #[test]
    fn a_detached_session_counts_for_the_damping_and_says_how_much_is_left() {
        let mobile = on(1, Status::Online, DeviceClass::Mobile);
        let d = derive([off_for(mobile, 1_000)]);
        assert_eq!(
            (d.status, d.again_in),
            (Status::Online, Some(Duration::from_secs(4)))
        );
        let d = derive([off_for(mobile, 5_000)]);
        assert_eq!((d.status, d.again_in), (Status::Offline, None));
    }

    #[test]
    fn of_equals_the_attached_one_is_the_device_that_one_would_reach() {
        let pc = off_for(on(1, Status::Online, DeviceClass::Pc), 100);
        let portal = on(2, Status::Online, DeviceClass::Portal);
        assert_eq!(derive([pc, portal]).class, DeviceClass::Portal);
        let pc = on(9, Status::Online, DeviceClass::Pc);
        assert_eq!(derive([portal, pc]).class, DeviceClass::Pc);
    }
}
