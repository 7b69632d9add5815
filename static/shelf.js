// Where answers lie until they are sent: in IndexedDB, which outlives page, crash and reload; what the browser does
// not take there (some private windows) lies in memory.

const NAME = "pairstudy";
const STORE = "outbox";
const PATIENCE = 2000; // ms; a database that keeps silent for longer (it happens in some browsers) is none

export class Shelf {
  #voter;
  #database;
  #inMemory = [];
  #count = 0;

  /** `voter` tells whose answers these are: one browser may serve several people in turn. */
  constructor(voter) {
    this.#voter = voter;
    this.#database = soon(open()).catch(() => null);
  }

  /** Whether all that lies here is still here when the page is closed now. */
  get lasting() {
    return this.#inMemory.length === 0;
  }

  /** Keep an item; resolves when it is on the disk. */
  async add(item) {
    const kept = { ...item, voter: this.#voter };
    try {
      await soon(this.#change((store) => store.add(kept)));
    } catch {
      this.#inMemory.push({ ...kept, id: `in memory ${(this.#count += 1)}` });
    }
  }

  /** All items of this voter, the oldest first. */
  async list() {
    const lasting = await soon(this.#change((store) => store.getAll(), "readonly")).catch(() => []);
    return [...lasting.filter((item) => item.voter === this.#voter), ...this.#inMemory];
  }

  async remove(item) {
    this.#inMemory = this.#inMemory.filter((other) => other.id !== item.id);
    await soon(this.#change((store) => store.delete(item.id))).catch(() => {}); // sent again, it is still one answer
  }

  /** One transaction of one request; resolves to its result when it is committed. */
  async #change(request, mode = "readwrite") {
    const database = await this.#database;
    if (database === null) throw new Error("no database");
    return new Promise((resolve, reject) => {
      const transaction = database.transaction(STORE, mode, { durability: "strict" });
      const asked = request(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(asked.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  }
}

function open() {
  return new Promise((resolve, reject) => {
    const asked = indexedDB.open(NAME, 1);
    // The key counts up, so items come back in the order in which they were put here, whichever tab did.
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE, { keyPath: "id", autoIncrement: true });
    asked.onsuccess = () => {
      asked.result.onversionchange = () => asked.result.close();
      resolve(asked.result);
    };
    asked.onerror = () => reject(asked.error);
  });
}

function soon(promise) {
  return Promise.race([promise, new Promise((_, reject) => setTimeout(reject, PATIENCE, new Error("no answer")))]);
}
