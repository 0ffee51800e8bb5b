import { createRequire } from 'node:module'
import { createPublicClient, createWalletClient, type Hex, http } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { DEV_ACCOUNTS } from '../../chain.ts'

/** A Flow of the older kind: it knows the `submit` without a submitter and nothing else, and reverts bare otherwise. */
const SOURCE = `// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;
struct Node { bytes32 root; uint256 height; }
struct Data { uint256 length; bytes tags; Node[] nodes; }
contract LegacyFlow {
  event Submit(address indexed sender, bytes32 indexed identity, uint256 submissionIndex, uint256 startPos, uint256 length, Data submission);
  uint256 public numSubmissions;
  uint256 public pricePerSector = 7;
  uint256 private next = 2048;
  function market() external view returns (address) { return address(this); }
  function submit(Data calldata data) external payable returns (uint256, bytes32, uint256, uint256) {
    uint256 size;
    bytes memory roots;
    for (uint256 i; i < data.nodes.length; i++) {
      size += 1 << data.nodes[i].height;
      roots = bytes.concat(roots, data.nodes[i].root);
    }
    require(msg.value >= size * pricePerSector, "fee");
    uint256 start = next;
    next = (start + size + 4095) / 4096 * 4096;
    uint256 index = numSubmissions++;
    emit Submit(msg.sender, keccak256(roots), index, start, size, data);
    return (index, keccak256(roots), start, size);
  }
}`

/** Compiles and deploys it. */
export async function deployLegacyFlow({ url }: { url: string }): Promise<{ flow: Hex; block: number }> {
  const solc = createRequire(import.meta.url)('solc') as { compile(input: string): string }
  const input = {
    language: 'Solidity',
    sources: { 'LegacyFlow.sol': { content: SOURCE } },
    settings: {
      viaIR: true,
      optimizer: { enabled: true },
      outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object'] } },
    },
  }
  const output = JSON.parse(solc.compile(JSON.stringify(input)))
  const { abi, evm } = output.contracts?.['LegacyFlow.sol']?.LegacyFlow ?? {}
  if (evm === undefined) throw new Error(JSON.stringify(output.errors))
  const [, , deployer] = DEV_ACCOUNTS
  if (deployer === undefined) throw new RangeError('no account')
  const account = privateKeyToAccount(deployer.privateKey)
  const wallet = createWalletClient({ account, transport: http(url) })
  const reader = createPublicClient({ transport: http(url), pollingInterval: 50 })
  const hash = await wallet.deployContract({ abi, bytecode: `0x${evm.bytecode.object}`, chain: null })
  const receipt = await reader.waitForTransactionReceipt({ hash })
  if (!receipt.contractAddress) throw new Error('the legacy flow was not deployed')
  return { flow: receipt.contractAddress, block: Number(receipt.blockNumber) }
}
