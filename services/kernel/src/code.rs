//! The closed set of error codes: what devices and services are told. Mapped once to gRPC here by
//! number and to HTTP; texts on the wire are the `snake_case` names.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $grpc:literal, $http:literal;)*) => {
        /// An error code. Its text on the wire never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All codes.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The text on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// The gRPC status code's number (google.rpc.Code).
            pub fn grpc(self) -> i32 {
                match self { $(Code::$name => $grpc,)* }
            }

            /// The HTTP status (RFC 9110, section 15).
            pub fn http(self) -> u16 {
                match self { $(Code::$name => $http,)* }
            }

            /// The code with this text.
            pub fn parse(text: &str) -> Option<Code> {
                match text { $($text => Some(Code::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// A frame or request that cannot be read.
    Malformed = "malformed", 3, 400;
    /// A frame or text larger than the limit.
    TooLarge = "too_large", 3, 413;
    /// A field has a value that it must not have.
    InvalidArgument = "invalid_argument", 3, 400;
    /// The first frame was not hello, or a second hello came.
    UnexpectedFrame = "unexpected_frame", 9, 400;
    /// The token cannot be read, or its signature, algorithm, key or issuer is wrong.
    TokenInvalid = "token_invalid", 16, 401;
    /// The token has expired.
    TokenExpired = "token_expired", 16, 401;
    /// The account does not exist or is closed.
    NoAccount = "no_account", 5, 404;
    /// What was asked for does not exist, or is not for this person to see.
    NotFound = "not_found", 5, 404;
    /// The sender is not a member of the conversation.
    NotAMember = "not_a_member", 7, 403;
    /// The person's role or relation does not allow it.
    Forbidden = "forbidden", 7, 403;
    /// The group is full.
    GroupFull = "group_full", 9, 409;
    /// It contradicts what is already there.
    Conflict = "conflict", 6, 409;
    /// Too many in too little time.
    RateLimited = "rate_limited", 8, 429;
    /// The plan does not include it.
    NotEntitled = "not_entitled", 7, 403;
    /// The device reads too slowly; it syncs when it returns.
    SlowReader = "slow_reader", 8, 429;
    /// Nothing was heard from the device for too long.
    IdleTimeout = "idle_timeout", 4, 408;
    /// The session was replaced by a newer one of the same device.
    Replaced = "replaced", 10, 409;
    /// The service is going down or away; connect again.
    Draining = "draining", 14, 503;
    /// A service or store behind this one does not answer.
    Unavailable = "unavailable", 14, 503;
    /// It took too long.
    DeadlineExceeded = "deadline_exceeded", 4, 504;
    /// A defect on our side.
    Internal = "internal", 13, 500;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_read_back_from_its_text() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
        }
    }
}
