//! The HTTP server: listener, workers, timeouts.

use std::{any::Any, io, net::TcpListener, sync::Arc, time::Duration};

use actix_web::{
    App, HttpServer,
    dev::{Extensions, Server},
    rt::net::TcpStream,
    web,
};

use super::{EdgeState, routes, routes::HttpState};
use crate::config::Limits;

/// How long the server waits for connections when everything in flight has ended: only idle
/// keep-alive connections and the last flushes are left then.
const CLOSE_TIMEOUT_S: u64 = 1;
/// Connections that the kernel may queue while workers are busy.
const BACKLOG: u32 = 4_096;

/// Starts the server on a bound listener; the caller awaits it.
///
/// Signals are the caller's. A client that closes its side is gone: its handler or body is dropped
/// at once (`h1_allow_half_closed(false)`; the default keeps silent streams of dead clients for
/// ever, actix-web#1313).
///
/// # Errors
/// When the listener can't be used.
pub fn serve(
    listener: TcpListener,
    workers: usize,
    limits: &Limits,
    state: HttpState,
    edge: Arc<EdgeState>,
) -> io::Result<Server> {
    let edge = web::Data::from(edge);
    let server = HttpServer::new(move || {
        let state = state.clone();
        App::new().app_data(edge.clone()).configure(move |config| routes::configure(config, state))
    })
    .workers(workers)
    .backlog(BACKLOG)
    .client_request_timeout(Duration::from_millis(limits.client_head_timeout_ms))
    .keep_alive(Duration::from_millis(limits.client_keep_alive_ms))
    .h1_allow_half_closed(false)
    .on_connect(without_delay)
    .shutdown_timeout(CLOSE_TIMEOUT_S)
    .disable_signals()
    .listen(listener)?;
    Ok(server.run())
}

/// Turns Nagle's algorithm off: it would hold small SSE events back for up to 40 ms.
fn without_delay(connection: &dyn Any, _: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<TcpStream>()
        && let Err(error) = stream.set_nodelay(true)
    {
        log::debug!(target: "faces::http", "TCP_NODELAY is not to be had: {error}");
    }
}
