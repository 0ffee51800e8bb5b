/** Notices the end of a JSON object or array in growing text, so that nothing is generated after it. */
export class JsonEnd {
  #depth = 0
  #isText = false
  #isEscaped = false
  #isEnded = false

  /** Takes more text; true once the outermost object or array is closed. */
  push(text: string): boolean {
    for (const character of text) {
      if (this.#isEnded) break
      if (this.#isText) {
        if (this.#isEscaped) this.#isEscaped = false
        else if (character === '\\') this.#isEscaped = true
        else if (character === '"') this.#isText = false
      } else if (character === '"') this.#isText = true
      else if (character === '{' || character === '[') this.#depth++
      else if (character === '}' || character === ']') {
        this.#depth--
        if (this.#depth === 0) this.#isEnded = true
      }
    }
    return this.#isEnded
  }
}
