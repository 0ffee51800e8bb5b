import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { DevnetError } from '#scripts/devnet/error.ts'
import { claimDirectory, holdsDevnet, wipeDevnet } from '#scripts/devnet/fresh.ts'
import { waitHealthy } from '#scripts/devnet/health.ts'
import { devnetLayout } from '#scripts/devnet/layout.ts'
import { endLeftovers, ProcessRecord } from '#scripts/devnet/leftovers.ts'
import { runningSupervisor, takeDevnet } from '#scripts/devnet/lock.ts'
import { choosePorts } from '#scripts/devnet/ports.ts'
import { identifyProcess, isSameProcess } from '#scripts/devnet/process-identity.ts'
import { type ProcessEvent, superviseProcess } from '#scripts/devnet/supervised-process.ts'

const directory = mkdtempSync(path.join(tmpdir(), 'weightless-supervision-'))
after(() => rmSync(directory, { recursive: true, force: true }))

let counter = 0
const newDirectory = () => path.join(directory, `${++counter}`)
const refused = (code: string) => (error: unknown) => error instanceof DevnetError && error.code === code

async function until(what: string, condition: () => boolean | Promise<boolean>, limitMs = 15_000): Promise<void> {
  const giveUpAt = performance.now() + limitMs
  while (!(await condition())) {
    assert.ok(performance.now() < giveUpAt, `waited ${limitMs} ms for: ${what}`)
    await delay(20)
  }
}

async function listen(port: number): Promise<Server> {
  const server = createServer()
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return server
}

const portOf = (server: Server) => {
  const address = server.address()
  assert.ok(typeof address === 'object' && address !== null)
  return address.port
}

describe('ports', () => {
  // Every name gets its own port; a taken one moves up past what others want, and the move is told.
  it('gives free ports, and the next free one where the wanted one is taken', async () => {
    const taken = await listen(0)
    const port = portOf(taken)
    try {
      const { ports, moved } = await choosePorts({ wanted: { chain: port, indexer: port + 1 } })
      assert.ok((ports.chain ?? 0) > port + 1, 'the taken port is replaced by one nobody else wants')
      assert.notEqual(ports.chain, ports.indexer)
      assert.deepEqual(moved[0], { name: 'chain', wanted: port, port: ports.chain })
    } finally {
      taken.close()
    }
  })

  it('refuses when there is nothing left to try', async () => {
    await assert.rejects(choosePorts({ wanted: { chain: 70_000 } }), refused('DEVNET_PORTS'))
  })
})

describe('the directory of a devnet', () => {
  it('belongs to one supervisor at a time, and the second one is told which process has it', () => {
    const layout = devnetLayout(newDirectory())
    claimDirectory(layout)
    const lock = takeDevnet(layout)
    assert.equal(runningSupervisor(layout)?.pid, process.pid)
    assert.throws(
      () => takeDevnet(layout),
      (error: unknown) =>
        error instanceof DevnetError && error.code === 'DEVNET_RUNNING' && error.details.pid === process.pid,
    )
    assert.throws(() => wipeDevnet(layout), refused('DEVNET_RUNNING'))
    lock.release()
    takeDevnet(layout).release()
    assert.equal(runningSupervisor(layout), undefined)
  })

  it('is not mistaken for running when the process id in it is of another process', () => {
    const layout = devnetLayout(newDirectory())
    claimDirectory(layout)
    const self = identifyProcess(process.pid)
    assert.ok(self !== undefined)
    if (self.started !== undefined) {
      writeFileSync(layout.supervisorFile, JSON.stringify({ ...self, started: `${self.started}0` }))
      assert.equal(runningSupervisor(layout), undefined)
    }
    writeFileSync(layout.supervisorFile, '{"pid": 99')
    assert.equal(runningSupervisor(layout), undefined)
  })

  // Deleting a devnet never touches a file that the devnet did not make.
  it('is not made in a directory with other things, and wiping leaves other things alone', () => {
    const foreign = devnetLayout(path.join(directory, 'foreign'))
    claimDirectory(foreign)
    writeFileSync(path.join(foreign.directory, 'notes.txt'), 'mine')
    writeFileSync(foreign.devnetFile, '{}')
    wipeDevnet(foreign)
    assert.equal(readFileSync(path.join(foreign.directory, 'notes.txt'), 'utf8'), 'mine')
    assert.throws(() => readFileSync(foreign.devnetFile))
    assert.equal(holdsDevnet(foreign), true, 'the marker stays, so that the directory can be used again')

    const other = devnetLayout(path.join(directory, 'foreign', '..'))
    assert.equal(holdsDevnet(other), false)
    assert.throws(() => claimDirectory(other), refused('DEVNET_DIRECTORY'))
  })
})

describe('a supervised process', () => {
  const plan = (name: string, script: string) => ({
    name,
    args: ['-e', script],
    cwd: directory,
    env: process.env,
    logFile: path.join(directory, `${name}.log`),
    stopLimitMs: 5_000,
  })

  it('is started again after it ended, with what it said in its log, until it is stopped', async () => {
    const events: ProcessEvent[] = []
    const supervised = superviseProcess({
      plan: plan('crasher', 'console.log("one more life"); setTimeout(() => process.exit(3), 20)'),
      onEvent: (event) => void events.push(event),
    })
    await until('a restart', () => supervised.restarts >= 1)
    await supervised.stop()
    const ends = events.filter((event) => event.type === 'ended')
    assert.equal(ends[0]?.how, 'exit code 3')
    assert.ok((ends[1]?.restartInMs ?? Number.POSITIVE_INFINITY) >= (ends[0]?.restartInMs ?? 0), 'pauses grow')
    assert.match(readFileSync(path.join(directory, 'crasher.log'), 'utf8'), /one more life/)
    assert.equal(supervised.pid, undefined, 'it runs no more')
  })

  it('is killed when it does not end in time', async () => {
    const events: string[] = []
    const stubborn = 'process.on("SIGTERM", () => {}); console.log("up"); setInterval(() => {}, 1000)'
    const supervised = superviseProcess({
      plan: { ...plan('stubborn', stubborn), stopLimitMs: 300 },
      onEvent: ({ type }) => void events.push(type),
    })
    await until('its start', () => readFileSync(path.join(directory, 'stubborn.log'), 'utf8').includes('up'))
    await supervised.stop()
    assert.ok(events.includes('killed'))
  })

  // A child that outlives its parent would hold the port the restarted parent needs.
  it('takes what it started down with it when it is killed', async () => {
    const script = `
      const { spawn } = require('node:child_process')
      const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
      console.log('child ' + child.pid)
      setInterval(() => {}, 1000)`
    const supervised = superviseProcess({ plan: plan('parent', script), onEvent: () => {} })
    const log = () => readFileSync(path.join(directory, 'parent.log'), 'utf8')
    await until('its child', () => /child \d+/.test(log()))
    const child = identifyProcess(Number(/child (\d+)/.exec(log())?.[1]))
    assert.ok(child !== undefined && supervised.pid !== undefined)
    process.kill(supervised.pid, 'SIGKILL')
    await until('the end of the child', () => !isSameProcess(child))
    await supervised.stop()
  })

  // Whatever happens to the supervisor, nothing of it stays behind.
  it('ends when its supervisor is killed', async () => {
    const module = path.join(import.meta.dirname, '../../../../scripts/devnet/supervised-process.ts')
    const log = path.join(directory, 'orphan.log')
    const script = `
      const { superviseProcess } = await import(${JSON.stringify(module)})
      superviseProcess({
        plan: { name: 'orphan', args: ['-e', 'console.log("pid " + process.pid); setInterval(() => {}, 1000)'],
          cwd: ${JSON.stringify(directory)}, env: process.env, logFile: ${JSON.stringify(log)}, stopLimitMs: 1000 },
        onEvent: () => {},
      })`
    const supervisor: ChildProcess = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: 'inherit',
    })
    await until('the process', () => {
      try {
        return /pid \d+/.test(readFileSync(log, 'utf8'))
      } catch {
        return false
      }
    })
    const orphan = identifyProcess(Number(/pid (\d+)/.exec(readFileSync(log, 'utf8'))?.[1]))
    assert.ok(orphan !== undefined)
    supervisor.kill('SIGKILL')
    await until('the end of the process', () => !isSameProcess(orphan))
  })
})

describe('leftovers of an earlier run', () => {
  it('are ended at the next start, and other processes with a recorded id are left alone', async () => {
    const file = path.join(directory, 'processes.json')
    const left = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
    assert.ok(left.pid !== undefined)
    const record = new ProcessRecord(file)
    record.started({ name: 'node-0', pid: left.pid })
    const identity = identifyProcess(left.pid)
    assert.ok(identity !== undefined)
    const written: unknown[] = JSON.parse(readFileSync(file, 'utf8'))
    // The id of this very test, as of a process that started at another time.
    writeFileSync(file, JSON.stringify([...written, { name: 'reused', pid: process.pid, started: 'another:1' }]))
    const killed = await endLeftovers({ file, say: () => {} })
    assert.deepEqual(killed, [], 'it ended when asked')
    assert.equal(isSameProcess(identity), false)
  })
})

describe('waiting until all is well', () => {
  it('names everything that is not, with the reason and the log', async () => {
    const targets = [
      { name: 'chain', check: async () => {}, logFile: 'chain.log' },
      {
        name: 'node-0',
        check: async () => {
          throw new Error('fetch failed', { cause: new Error('connect ECONNREFUSED 127.0.0.1:1') })
        },
        processState: () => 'not running, last ended with exit code 2',
        logFile: 'node-0.log',
      },
    ]
    await assert.rejects(
      waitHealthy({ targets, timeoutMs: 300, signal: new AbortController().signal }),
      (error: unknown) =>
        error instanceof DevnetError &&
        error.code === 'DEVNET_UNHEALTHY' &&
        /node-0: connect ECONNREFUSED .*exit code 2.*node-0\.log/.test(error.message) &&
        !error.message.includes('chain:'),
    )
  })

  it('ends at once when it is aborted', async () => {
    const abort = new AbortController()
    const never = {
      name: 'never',
      check: () =>
        new Promise<void>((_, reject) => abort.signal.addEventListener('abort', () => reject(abort.signal.reason))),
      logFile: '',
    }
    const waiting = waitHealthy({ targets: [never], timeoutMs: 60_000, signal: abort.signal })
    abort.abort()
    await assert.rejects(waiting, { name: 'AbortError' })
  })
})
