//! Sockets: the machine's, or a simulated network's.

#![allow(clippy::disallowed_methods, reason = "this is the door to the network")]

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

/// A connected byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A connected byte stream, whatever carries it.
pub type BoxIo = Box<dyn Io>;

/// Waits for connections.
#[async_trait]
pub trait Listener: Send + 'static {
    /// The next connection and where it comes from.
    async fn accept(&mut self) -> io::Result<(BoxIo, SocketAddr)>;
    /// Where it listens (with the real port when 0 was asked for).
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A network.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Listens on `addr` (`host:port`; port 0 takes a free one).
    async fn listen(&self, addr: &str) -> io::Result<Box<dyn Listener>>;
    /// Connects to `host:port`.
    async fn connect(&self, addr: &str) -> io::Result<BoxIo>;
    /// The addresses that `host:port` stands for, in the order in which to try them.
    async fn resolve(&self, addr: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host(addr).await?.collect())
    }
}

/// The machine's TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

#[async_trait]
impl Network for Tcp {
    async fn listen(&self, addr: &str) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(TcpListener::bind(addr).await?))
    }

    async fn connect(&self, addr: &str) -> io::Result<BoxIo> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

#[async_trait]
impl Listener for TcpListener {
    async fn accept(&mut self) -> io::Result<(BoxIo, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok((Box::new(stream), peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}

/// A network whose names are made up: for tests, which change what a name stands for as they go.
/// What is not among its names goes to the network beneath.
pub struct Names {
    beneath: Arc<dyn Network>,
    names: RwLock<BTreeMap<String, Vec<SocketAddr>>>,
}

impl Names {
    /// No names yet, over `beneath`.
    pub fn over(beneath: Arc<dyn Network>) -> Arc<Self> {
        Arc::new(Self {
            beneath,
            names: RwLock::default(),
        })
    }

    /// `host:port` stands for these addresses from now on (whatever their ports are); for none of
    /// them, and resolving fails as for a name that nobody knows.
    pub fn set(&self, name: &str, addresses: &[SocketAddr]) {
        self.names
            .write()
            .insert(name.to_owned(), addresses.to_vec());
    }
}

#[async_trait]
impl Network for Names {
    async fn listen(&self, addr: &str) -> io::Result<Box<dyn Listener>> {
        self.beneath.listen(addr).await
    }

    async fn connect(&self, addr: &str) -> io::Result<BoxIo> {
        let known = self.names.read().get(addr).cloned();
        let Some(addresses) = known else {
            return self.beneath.connect(addr).await;
        };
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            match self.beneath.connect(&address.to_string()).await {
                Ok(io) => return Ok(io),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    async fn resolve(&self, addr: &str) -> io::Result<Vec<SocketAddr>> {
        let known = self.names.read().get(addr).cloned();
        match known {
            Some(addresses) if addresses.is_empty() => Err(io::ErrorKind::NotFound.into()),
            Some(addresses) => Ok(addresses),
            None => self.beneath.resolve(addr).await,
        }
    }
}
