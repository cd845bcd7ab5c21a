//! Where a server is: `ws://host:port`.

/// Why a server's address cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// TLS is terminated before the edge in this version; the client speaks in the clear.
    #[error("{0} needs TLS, which this client does not speak yet; use ws:// or grpc://")]
    Tls(String),
    /// Not an address at all.
    #[error("{0} is not a server's address; it is ws://host:port or grpc://host:port")]
    Shape(String),
}

/// What carries the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// WebSocket `/v1/connect`, binary.
    WebSocket,
    /// The gRPC stream `tandem.client.v1.Messenger/Connect`.
    Grpc,
}

/// A server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// What carries the frames.
    pub carrier: Carrier,
    /// `host:port`.
    pub authority: String,
}

impl Server {
    /// Reads `ws://host:port`, `http://host:port` (the same), `grpc://host:port` or `host:port`.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("ws", url));
        let carrier = match scheme {
            "ws" | "http" => Carrier::WebSocket,
            "grpc" => Carrier::Grpc,
            "wss" | "https" | "grpcs" => return Err(UrlError::Tls(url.to_owned())),
            _ => return Err(UrlError::Shape(url.to_owned())),
        };
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(UrlError::Shape(url.to_owned()));
        }
        Ok(Self {
            carrier,
            authority: format!("{host}:{port}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_the_carrier_and_the_port() {
        let s = Server::parse("ws://127.0.0.1:7400/v1/connect").unwrap();
        assert_eq!(
            (s.carrier, s.authority.as_str()),
            (Carrier::WebSocket, "127.0.0.1:7400")
        );
        assert_eq!(
            Server::parse("grpc://[::1]:7").unwrap().authority,
            "[::1]:7"
        );
        assert_eq!(
            Server::parse("example.com").unwrap().authority,
            "example.com:80"
        );
        assert!(matches!(Server::parse("wss://x:1"), Err(UrlError::Tls(_))));
        assert!(matches!(Server::parse("ws://:1"), Err(UrlError::Shape(_))));
    }
}
