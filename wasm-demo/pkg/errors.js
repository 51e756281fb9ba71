// Errors with a code for programs and a message for people.

export class MaskRcnnError extends Error {
  /**
   * @param {string} code one of the codes that index.d.ts lists
   * @param {string} message what failed and how to fix it
   */
  constructor(code, message) {
    super(message);
    this.name = "MaskRcnnError";
    this.code = code;
  }
}
