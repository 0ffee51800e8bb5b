import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Abi, type AbiFunction, toFunctionSelector } from 'viem'
import { inferenceAbi, ledgerAbi } from '#client/compute/abi.ts'
import { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'
import { ledgerManagerAbi } from '#protocol/abi/ledger-manager.ts'

const functions = (abi: Abi) =>
  new Map(
    abi.filter((item): item is AbiFunction => item.type === 'function').map((item) => [toFunctionSelector(item), item]),
  )
/** Types of the results, tuples taken apart. */
const shape = (outputs: AbiFunction['outputs']): unknown[] =>
  outputs.map((output) => ('components' in output ? [output.type, shape(output.components)] : output.type))

// The part of the contracts that the client calls is written by hand, because it also fits the original contracts.
for (const [name, own, contract] of [
  ['ledger', ledgerAbi, ledgerManagerAbi],
  ['inference', inferenceAbi, inferenceServingAbi],
] as const) {
  test(`every function of the ${name} that the client calls is in the contract, with the same results`, () => {
    const there = functions(contract as Abi)
    for (const [selector, item] of functions(own as Abi)) {
      assert.deepEqual(shape(there.get(selector)?.outputs ?? []), shape(item.outputs), item.name)
      assert.equal(there.get(selector)?.stateMutability, item.stateMutability, item.name)
    }
  })
}
