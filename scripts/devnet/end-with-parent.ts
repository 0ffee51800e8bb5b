/**
 * Preloaded (`node --import`) into every process of a devnet: when the supervisor is gone, however it went, its end of
 * this process's stdin closes, and this process ends too. Without it a supervisor killed with SIGKILL would leave
 * agents behind that hold ports and data.
 */
import { isMainThread } from 'node:worker_threads'

const graceMs = 15_000
let ending = false

// Worker threads load this too, and their stdin has always ended.
if (isMainThread) {
  process.stdin.once('end', endWithParent)
  process.stdin.once('close', endWithParent)
  process.stdin.once('error', endWithParent)
  process.stdin.resume()
  // The pipe alone must not keep a process alive that has finished. A pipe's stream has `unref`, a file's has not.
  if ('unref' in process.stdin) process.stdin.unref()
}

function endWithParent(): void {
  if (ending) return
  ending = true
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), graceMs).unref()
  process.kill(process.pid, 'SIGTERM')
}
