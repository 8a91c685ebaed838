// What `rowscan::gpu` waits with: the module is suspended for one turn of the event loop.
const { port1, port2 } = new MessageChannel();
let resume;
port1.onmessage = () => resume();

export const turn = new WebAssembly.Suspending(() => new Promise((done) => {
  resume = done;
  port2.postMessage(null);
}));
