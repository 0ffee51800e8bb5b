import { parentPort, workerData } from 'node:worker_threads'
import { bindKernels, kernelNames } from './bind.ts'
import { DONE, MAX_ARGUMENTS, RUNG, recordIndex, STATUS, type WorkerStart } from './pool-protocol.ts'

/**
 * A thread of a kernel pool. Once started it never returns to its event loop: it sleeps in `Atomics.wait`, where it
 * gets no messages and no timers. `Worker.terminate()` wakes and ends it.
 */

const { modules, memory, control, ring, warmUp } = workerData as WorkerStart
const kernels: Record<string, (...values: number[]) => void> = { ...bindKernels({ modules, memory }) }
const names = kernelNames(modules)

for (const { name, arguments: values, times } of warmUp) for (let i = 0; i < times; i++) kernels[name]?.(...values)
parentPort?.postMessage('ready')

for (let done = 0; ; ) {
  Atomics.wait(control, RUNG, done)
  for (const rung = Atomics.load(control, RUNG); done !== rung; ) {
    const at = recordIndex(done, ring)
    control[at + STATUS] = runJob(at)
    done = (done + 1) | 0
    Atomics.store(control, DONE, done)
    Atomics.notify(control, DONE)
  }
}

function runJob(at: number): 0 | 1 {
  try {
    kernels[names[control[at] ?? -1] ?? '']?.(...control.subarray(at + 1, at + 1 + MAX_ARGUMENTS))
    return 0
  } catch {
    return 1 // a trap leaves the instance usable
  }
}
