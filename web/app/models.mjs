// The models that ship with the page. assets/models.json lists them: a new one is a folder in assets and an entry there.

const list = fetch('assets/models.json').then((answer) => answer.json());

/** The models of one kind, `images`, `clouds` or `scenes`: [{ id, title, address }], the first of which is taken unless told. */
export async function catalog(kind) {
  return (await list)[kind].map(({ id, title, folder }) => ({ id, title, address: `assets/${folder}/` }));
}
