//! A TCP relay with a fixed address, whose connections can be cut and frozen.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::net::TcpSocket;

use crate::support::lock;

/// How often a frozen relay looks whether it thaws.
const TICK: Duration = Duration::from_millis(5);
/// Longest write to a side that does not read: a stopped process.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a relay leads.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// Nobody is there: connections are reset.
    Nobody,
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// How connections are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Fin,
    Reset,
    /// What the target answers is lost for that long, then as [`Cut::Reset`]: a commit that is made
    /// and whose answer never comes.
    Swallow(Duration),
}

/// One side of a connection.
#[derive(Debug)]
enum Side {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Side {
    fn connect(target: &Target) -> io::Result<Self> {
        let side = match target {
            Target::Nobody => return Err(io::ErrorKind::ConnectionRefused.into()),
            Target::Tcp(address) => Self::Tcp(TcpStream::connect(address)?),
            Target::Unix(path) => Self::Unix(UnixStream::connect(path)?),
        };
        side.ready()
    }

    fn ready(self) -> io::Result<Self> {
        match &self {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
            }
            Self::Unix(stream) => stream.set_write_timeout(Some(WRITE_TIMEOUT))?,
        }
        Ok(self)
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    fn shutdown(&self, how: Shutdown) {
        // A side that is gone already is what was wanted.
        drop(match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        });
    }

    /// Lets the last handle's drop reset the connection, and wakes who reads from it.
    fn reset(&self) {
        if let Self::Tcp(stream) = self
            && let Ok(stream) = stream.try_clone()
        {
            drop(TcpSocket::from_std_stream(stream).set_zero_linger());
            self.shutdown(Shutdown::Read);
        } else {
            self.shutdown(Shutdown::Both);
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Unix(stream) => stream.read(bytes),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Unix(stream) => stream.write_all(bytes),
        }
    }
}

/// A connection and its continuation.
#[derive(Debug)]
struct Link {
    client: Side,
    target: Side,
    is_cut: AtomicBool,
    swallows: AtomicBool,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<Target>,
    links: Mutex<Vec<Arc<Link>>>,
    frozen: AtomicBool,
    stopping: AtomicBool,
}

/// The relay.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    pub(crate) fn start(target: Target) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            links: Mutex::default(),
            frozen: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.stopping.load(Ordering::Acquire) {
                    return;
                }
                let Ok(client) = client else { continue };
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || relay(client, &shared));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where new connections lead.
    pub(crate) fn lead_to(&self, target: Target) {
        *lock(&self.shared.target) = target;
    }

    /// Nothing passes until [`Proxy::thaw`]; nothing is lost.
    pub(crate) fn freeze(&self) {
        self.shared.frozen.store(true, Ordering::Release);
    }

    pub(crate) fn thaw(&self) {
        self.shared.frozen.store(false, Ordering::Release);
    }

    /// From now on nothing comes back over the connections that there are, and they stay open; new
    /// ones are not touched.
    pub(crate) fn silence(&self) {
        let links = lock(&self.shared.links);
        links.iter().for_each(|link| link.swallows.store(true, Ordering::Release));
    }

    /// Cuts the connections that `chosen` says by their number; how many there were.
    pub(crate) fn cut(&self, how: Cut, chosen: impl Fn(usize) -> bool) -> usize {
        let links: Vec<Arc<Link>> = {
            let links = lock(&self.shared.links);
            let numbered = links.iter().enumerate().filter(|(number, _)| chosen(*number));
            numbered.map(|(_, link)| Arc::clone(link)).collect()
        };
        if let Cut::Swallow(time) = how {
            links.iter().for_each(|link| link.swallows.store(true, Ordering::Release));
            std::thread::park_timeout(time);
        }
        for link in &links {
            link.is_cut.store(true, Ordering::Release);
            for side in [&link.client, &link.target] {
                match how {
                    Cut::Fin => side.shutdown(Shutdown::Both),
                    Cut::Reset | Cut::Swallow(_) => side.reset(),
                }
            }
        }
        links.len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        // Wakes `accept`; when it fails, the listener is gone already.
        drop(TcpStream::connect(self.address));
        self.cut(Cut::Fin, |_| true);
    }
}

fn relay(client: TcpStream, shared: &Shared) {
    let target = lock(&shared.target).clone();
    let client = Side::Tcp(client);
    let Ok(target) = Side::connect(&target) else { return client.reset() };
    let Ok(client) = client.ready() else { return };
    let (Ok(requests), Ok(request_sink)) = (client.try_clone(), target.try_clone()) else { return };
    let (Ok(answers), Ok(answer_sink)) = (target.try_clone(), client.try_clone()) else { return };
    let (is_cut, swallows) = (AtomicBool::new(false), AtomicBool::new(false));
    let link = Arc::new(Link { client, target, is_cut, swallows });
    lock(&shared.links).push(Arc::clone(&link));
    std::thread::scope(|scope| {
        scope.spawn(|| pump(requests, request_sink, shared, &link, || false));
        let swallows = || link.swallows.load(Ordering::Acquire);
        pump(answers, answer_sink, shared, &link, swallows);
    });
    lock(&shared.links).retain(|have| !Arc::ptr_eq(have, &link));
}

/// Passes on what comes, and how it ends.
fn pump(mut from: Side, mut to: Side, shared: &Shared, link: &Link, is_lost: impl Fn() -> bool) {
    let mut bytes = vec![0_u8; 16_384];
    let is_cut = || link.is_cut.load(Ordering::Acquire);
    loop {
        let read = from.read(&mut bytes);
        while shared.frozen.load(Ordering::Acquire) && !is_cut() {
            std::thread::park_timeout(TICK);
        }
        if is_cut() {
            return;
        }
        match read {
            Ok(0) => return to.shutdown(Shutdown::Write),
            Ok(_) if is_lost() => {}
            Ok(count) => {
                if to.write_all(&bytes[..count]).is_err() {
                    return from.reset();
                }
            }
            Err(_) => return to.reset(),
        }
    }
}
