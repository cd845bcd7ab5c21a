//! Push tokens: what a device may name as the place of its notifications.

use tandem_proto::client::{PushToken, push_token::Channel};

/// What is wrong with the token, naming the field and what to write; `None`: nothing.
/// Endpoints are `https:`, or `http:` where that is allowed.
pub fn fault(token: &PushToken, allow_http: bool) -> Option<&'static str> {
    match &token.channel {
        None => Some("a push token names a channel: set `web_push`"),
        Some(Channel::WebPush(w)) => {
            let rest = match w.endpoint.split_once("://") {
                Some(("https", rest)) => rest,
                Some(("http", rest)) if allow_http => rest,
                _ => "",
            };
            let host = rest.split('/').next().unwrap_or_default();
            let clean = w.endpoint.bytes().all(|b| b.is_ascii_graphic());
            if host.is_empty() || !clean || w.endpoint.len() > 2048 {
                Some("web_push.endpoint is an https URL of at most 2048 characters")
            } else if w.p256dh.len() != 65 || w.p256dh[0] != 4 {
                Some("web_push.p256dh is an uncompressed P-256 point of 65 octets")
            } else if w.auth.len() != 16 {
                Some("web_push.auth is 16 octets")
            } else {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tandem_proto::client::WebPush;

    use super::*;

    fn token(endpoint: &str, point: usize, auth: usize) -> PushToken {
        let mut p256dh = vec![0; point];
        p256dh[0] = 4;
        let w = WebPush {
            endpoint: endpoint.to_owned(),
            p256dh,
            auth: vec![0; auth],
        };
        PushToken {
            channel: Some(Channel::WebPush(w)),
            hide_text: false,
        }
    }

    #[test]
    fn a_whole_subscription_is_taken_and_a_broken_one_named() {
        assert_eq!(
            fault(&token("https://push.example/abc", 65, 16), false),
            None
        );
        assert!(
            fault(&token("http://push.example/abc", 65, 16), false)
                .unwrap()
                .contains("endpoint")
        );
        assert!(
            fault(&token("https:///abc", 65, 16), false)
                .unwrap()
                .contains("endpoint")
        );
        assert!(
            fault(&token("https://push.example/\n", 65, 16), false)
                .unwrap()
                .contains("endpoint")
        );
        assert!(
            fault(&token("https://push.example/abc", 64, 16), false)
                .unwrap()
                .contains("p256dh")
        );
        assert!(
            fault(&token("https://push.example/abc", 65, 15), false)
                .unwrap()
                .contains("auth")
        );
        assert!(
            fault(&PushToken::default(), false)
                .unwrap()
                .contains("channel")
        );
    }

    #[test]
    fn plain_http_is_taken_only_where_it_is_allowed() {
        let token = token("http://127.0.0.1:8080/abc", 65, 16);
        assert!(fault(&token, false).unwrap().contains("endpoint"));
        assert_eq!(fault(&token, true), None);
    }
}
