// `turn` suspends the module for one turn of the event loop. `rowscan::gpu` calls it where it would block.
const { port1, port2 } = new MessageChannel();
let resume;
port1.onmessage = () => resume();

export const turn = new WebAssembly.Suspending(() => new Promise((done) => {
  resume = done;
  port2.postMessage(null);
}));
