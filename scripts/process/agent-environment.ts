/**
 * The environment of an agent that a script starts. Agents are configured by their files alone: what is set for other
 * agents in this shell is not for them.
 */
export function agentEnvironment(): Record<string, string | undefined> {
  const foreign = /^(WEIGHTLESS_|ZGS_NODE__|NODE_TEST_)/
  const own = Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name)))
  // glibc keeps up to eight arenas a core, each with its own free memory: worth 80 MB in a node under load.
  return { MALLOC_ARENA_MAX: '2', ...own }
}
