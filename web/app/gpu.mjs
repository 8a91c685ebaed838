// Opening the GPU device, also again after it was lost.
import init, { Device } from './pkg/rowscan_web.js';

/** The reason why WebGPU cannot be used, as a sentence for the user, or `null`. */
export async function missing() {
  if (!navigator.gpu) return window.isSecureContext
    ? 'The browser does not offer WebGPU at all.'
    : 'WebGPU needs a secure page: https, or localhost.';
  if (!(await navigator.gpu.requestAdapter())) return 'The browser offers WebGPU, but no adapter: the graphics driver may be blocked or too old.';
  return null;
}

let module;

/** Opens the adapter: { device, name, software }. */
export async function open() {
  module ??= init();
  await module;
  const adapter = await navigator.gpu.requestAdapter();
  const { vendor = '', architecture = '', description = '', isFallbackAdapter = false } = adapter?.info ?? {};
  const software = isFallbackAdapter || /swiftshader|llvmpipe|basic render/i.test(`${architecture} ${description}`);
  const name = description || [vendor, architecture].filter(Boolean).join(' ') || 'WebGPU adapter';
  return { device: await Device.open(software), name, software };
}
