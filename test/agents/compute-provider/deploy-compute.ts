import { deploySequence } from '../../deploy-sequence.ts'

export async function deployComputeContracts({ url }: { url: string }) {
  const ETHER = 10n ** 18n
  const { addresses, block, deployer } = await deploySequence({
    url,
    names: ['governance', 'filler1', 'ledger', 'filler3', 'filler4', 'filler5', 'inference'],
    plan: ({ governance, ledger, inference }, owner) => {
      const gov = ['governance/Governance', [owner, owner, 0, [ledger, inference]]] as const
      const parameters = {
        ...{
          authority: governance,
          ledger,
          minProviderStake: 100n * ETHER,
          unbondingSeconds: 60n,
          lockTime: 3600n,
          minLockTime: 60n,
        },
      }
      return [
        gov,
        gov,
        [
          'compute/LedgerManager',
          [
            governance,
            3n * ETHER,
            ETHER,
            [
              {
                serviceType: 'inference',
                version: 'v1.0',
                serviceAddress: inference,
                description: '',
                recommended: true,
              },
            ],
          ],
        ],
        gov,
        gov,
        gov,
        ['compute/InferenceServing', [parameters]],
      ]
    },
  })
  return { ...addresses, block, deployer }
}
