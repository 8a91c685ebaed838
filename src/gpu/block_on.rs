//! Blocking on a future. A native thread sleeps. A WebAssembly module is suspended, so that the browser's event loop
//! can run.

#[cfg(not(target_arch = "wasm32"))]
pub(super) use pollster::block_on;

#[cfg(target_arch = "wasm32")]
#[link(wasm_import_module = "rowscan_suspend")]
unsafe extern "C" {
    /// A `WebAssembly.Suspending` function that returns after one turn of the browser's event loop.
    safe fn turn();
}

#[cfg(target_arch = "wasm32")]
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
        turn();
    }
}
