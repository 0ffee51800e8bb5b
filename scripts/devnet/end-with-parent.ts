/**
 * Preloaded (`node --import`) into every process of a devnet: when the supervisor is gone, however it went, its end of
 * this process's stdin closes, and this process ends too. Without it a supervisor killed with SIGKILL would leave
 * agents behind that hold ports and data.
 */
const graceMs = 15_000

process.stdin.once('end', endWithParent)
process.stdin.once('close', endWithParent)
process.stdin.once('error', endWithParent)
process.stdin.resume()
// The pipe alone must not keep a process alive that has finished. A pipe's stream has `unref`, a file's has not.
if ('unref' in process.stdin) process.stdin.unref()

let ending = false

function endWithParent(): void {
  if (ending) return
  ending = true
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), graceMs).unref()
  process.kill(process.pid, 'SIGTERM')
}
