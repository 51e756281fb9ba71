// What goes wrong, with a code for programs and words for people.

export class MaskRcnnError extends Error {
  /**
   * @param {string} code one of the codes that index.d.ts lists
   * @param {string} message what happened and what to do
   */
  constructor(code, message) {
    super(message);
    this.name = "MaskRcnnError";
    this.code = code;
  }
}
