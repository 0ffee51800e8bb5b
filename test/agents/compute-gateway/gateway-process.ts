import { Command } from 'commander'
import { register } from '#cli/commands/gateway.ts'
import { createIo } from '#cli/io.ts'
import { addGlobalOptions } from '#cli/options.ts'

// `weightless gateway` as a process of its own, which ends itself: run with the command's arguments.
const { stdin, stdout, stderr, env } = process
const io = createIo({ argv: process.argv.slice(2), env, cwd: process.cwd(), stdin, stdout, stderr })
const program = new Command('weightless')
register(program, io)
addGlobalOptions(program)
await program.parseAsync([...io.argv], { from: 'user' })
