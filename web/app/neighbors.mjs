// Patches of the samples by their features, to find those alike.

export class Library {
  #samples;
  #model;
  /** [{ image, title, features (L, D) }], the image that is looked at first */
  #entries = [];
  /** (L, D): the mean of the features at a place. Without it every patch is most like those of its own place. */
  #mean;

  constructor(samples) {
    this.#samples = samples;
  }

  /**
   * Reads the features of all samples, unless they are of this model, and those of `image`. Stops when `current()` says
   * that the model is no longer in use.
   */
  async read(model, image, current) {
    const bitmap = await createImageBitmap(image);
    if (!current()) return;
    const own = { image: bitmap, title: 'this image', features: await model.features(image, { patches: true }) };
    let others = this.#entries.slice(1);
    if (this.#model !== model) {
      others = [];
      for (const { id } of await this.#samples.list) {
        const { image, title } = await this.#samples.get(id);
        if (!current()) return;
        others.push({ image, title, features: await model.features(image, { patches: true }) });
      }
    }
    this.#model = model;
    this.#entries = [own, ...others];
    this.#mean = own.features.map((_, i) => others.reduce((sum, { features }) => sum + features[i], 0) / others.length);
  }

  /** The `count` patches most like patch `token` of the image: [{ image, title, token, alike }], `alike` a cosine. */
  nearest(model, token, count) {
    const tokens = model.grid ** 2;
    const [own] = this.#entries;
    if (!own || this.#model !== model || own.features.length % tokens) return [];
    const width = own.features.length / tokens;
    const vector = (features, token) => {
      const from = token * width;
      const row = Float64Array.from({ length: width }, (_, i) => features[from + i] - this.#mean[from + i]);
      const norm = Math.hypot(...row) || 1;
      return row.map((value) => value / norm);
    };
    const wanted = vector(own.features, token);
    const same = own.image; // the chosen image may be a sample: its copy among them is left out
    const found = [];
    for (const { image, title, features } of this.#entries) {
      const copy = image !== same && features.every((value, i) => value === own.features[i]);
      if (copy) continue;
      for (let other = 0; other < tokens; other++) {
        if (image === same && other === token) continue;
        const alike = vector(features, other).reduce((sum, value, i) => sum + value * wanted[i], 0);
        found.push({ image, title, token: other, alike });
      }
    }
    return found.sort((a, b) => b.alike - a.alike).slice(0, count);
  }
}
