/**
 * The trainer, killed with SIGKILL at the moment it reports step `killAt`: no handler runs, nothing is flushed.
 * Arguments: the trainer's entry point, the step.
 */
const [entry = '', killAt = ''] = process.argv.slice(2)
const write = process.stdout.write.bind(process.stdout)

Object.assign(process.stdout, {
  write(chunk: string | Uint8Array, ...rest: never[]): boolean {
    const event = chunk === '' ? undefined : (JSON.parse(String(chunk)) as { type: string; step?: number })
    if (event?.type === 'progress' && event.step === Number(killAt)) process.kill(process.pid, 'SIGKILL')
    return write(chunk, ...rest)
  },
})
await import(entry)

export {}
