//! Connections: limits and shutdown.

use crate::deadline::Deadline;
use crate::limits::Limits;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Serves until Ctrl-C or SIGTERM, then answers accepted requests.
pub async fn serve(router: Router, limits: &Limits) -> io::Result<()> {
    let listener = TcpListener::bind(limits.listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut stop = std::pin::pin!(stop_signal());
    loop {
        // A connection is accepted when a slot is free; the others wait in the queue of the operating system.
        let accepted = async {
            let slot = slots.clone().acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, stream) = tokio::select! {
            accepted = accepted => accepted,
            stopped = &mut stop => {
                stopped?;
                break;
            }
        };
        let Ok((stream, _)) = stream else {
            // A temporary error, for example no free file descriptors.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .serve_connection(
                TokioIo::new(Deadline::new(stream, limits.write)),
                TowerToHyperService::new(router.clone()),
            );
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // Connection errors of a client are not errors of the server.
            let _ = connection.await;
            drop(slot);
        });
    }
    drop((listener, router));
    println!("stopping");
    if tokio::time::timeout(limits.stop, graceful.shutdown())
        .await
        .is_err()
    {
        eprintln!("some requests were not answered in {:?}", limits.stop);
    }
    Ok(())
}

#[cfg(unix)]
async fn stop_signal() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn stop_signal() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}
