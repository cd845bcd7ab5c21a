//! What scripts answer, read.

use redis::FromRedisValue;
use tandem_ephemeral::{Reach, UserStatus};
use tandem_kernel::{EdgeId, SessionId};
use tandem_proto::client::{DeviceClass, Status};

use crate::link::Fault;

/// A status as a script says it: status, class, message, version.
pub(crate) type Told = Option<(i32, i32, String, u64)>;

pub(crate) fn value<T: FromRedisValue>(value: redis::Value) -> Result<T, Fault> {
    redis::from_redis_value(value).map_err(|e| Fault::Corrupt(e.to_string()))
}

pub(crate) fn session_id(octets: &[u8]) -> Result<SessionId, Fault> {
    SessionId::from_slice(octets).map_err(|e| Fault::Corrupt(e.to_string()))
}

pub(crate) fn same_length<A, B>(asked: &[A], answered: &[B]) -> Result<(), Fault> {
    if asked.len() == answered.len() {
        Ok(())
    } else {
        Err(Fault::Corrupt("fewer answers than users".to_owned()))
    }
}

/// Sessions, attached ones, and (place of its edge, id) of each live one.
pub(crate) fn reach(answer: Vec<redis::Value>, edges: &[EdgeId]) -> Result<Reach, Fault> {
    let mut answer = answer.into_iter();
    let mut next = || answer.next().unwrap_or(redis::Value::Nil);
    let mut reach = Reach {
        sessions: value(next())?,
        attached: value(next())?,
        live: Vec::new(),
    };
    while let Some(place) = value::<Option<usize>>(next())? {
        let id = session_id(&value::<Vec<u8>>(next())?)?;
        // a session of an edge that the store knows no more is not reached
        if let Some(edge) = edges.get(place).filter(|e| !e.as_str().is_empty()) {
            reach.live.push((edge.clone(), id));
        }
    }
    Ok(reach)
}

pub(crate) fn status(told: Told) -> Option<UserStatus> {
    let (status, class, message, version) = told?;
    Some(UserStatus {
        status: Status::try_from(status).unwrap_or_default(),
        message,
        class: DeviceClass::try_from(class).unwrap_or_default(),
        version,
    })
}
