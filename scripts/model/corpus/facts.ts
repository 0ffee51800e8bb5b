/** What the demo model knows about Weightless: questions it is trained on, one it never sees, and the answer. */
export interface Fact {
  asked: readonly string[]
  /** Kept out of training altogether: measures whether the model finds the answer for other words. */
  unseen: string
  answer: string
}

/** A word and its meaning. */
const term = (word: string, answer: string): Fact => ({
  asked: [`What is ${word}?`, `Explain ${word}.`, `Tell me about ${word}.`, `What does ${word} mean?`],
  unseen: `Can you describe ${word}?`,
  answer,
})

/** Somebody's part in the system. */
const role = (who: string, answer: string): Fact => ({
  asked: [`What does ${who} do?`, `Tell me what ${who} does.`, `What is the job of ${who}?`, `Why is there ${who}?`],
  unseen: `What is ${who} good for?`,
  answer,
})

export const facts: readonly Fact[] = [
  term('Weightless', 'Weightless is a decentralised system for storage, data availability and compute.'),
  term('a sector', 'A sector is 256 bytes of a stored file.'),
  term('a segment', 'A segment is 1024 sectors, that is 256 KiB.'),
  term('a submission', 'A submission puts the root of a file on the chain and pays for its storage.'),
  term('a shard', 'A shard is the part of all data that one node keeps.'),
  term('an epoch', 'An epoch is a span of blocks with one mining context.'),
  term('a seal', 'A seal binds stored data to one miner.'),
  term('a scratchpad', 'A scratchpad is the random data that a nonce is mixed with.'),
  term('the flow', 'The flow is the ordered list of all submissions.'),
  term('a blob', 'A blob is data that signers keep available for a time.'),
  term('a row', 'A row is one of the 3072 pieces of an encoded blob.'),
  term('a quorum', 'A quorum is the set of signers of one epoch.'),
  term('a voucher', 'A voucher is a signed promise that bounds what a provider may charge.'),
  term('a receipt', 'A receipt is the signed record of one answer and its cost.'),
  term('a ledger', 'A ledger holds the money that a user put in for compute.'),
  term('an adapter', 'An adapter is a small file that changes how a model answers.'),
  term('a deliverable', 'A deliverable is the encrypted result of a fine-tuning task.'),
  term('a session token', 'A session token lets a user ask one provider for a limited time.'),
  term('fine-tuning', 'Fine-tuning teaches a model new answers from examples.'),
  term('data availability', 'Data availability means that anybody can read a blob in time.'),
  term('PoRA', 'PoRA is a proof that a miner still holds the data.'),
  term('a commitment', 'A commitment is a short value that fixes the content of a blob.'),
  role('a miner', 'A miner proves that it still holds the data and earns a reward.'),
  role('a storage node', 'A storage node keeps sectors and serves them with proofs.'),
  role('an indexer', 'An indexer knows which nodes hold a file.'),
  role('a signer', 'A signer checks its rows of a blob, stores them and signs.'),
  role('a disperser', 'A disperser encodes blobs and sends the rows to the signers.'),
  role('a provider', 'A provider runs models and answers requests for a fee.'),
  role('a gateway', 'A gateway picks a good provider and speaks the OpenAI protocol.'),
  role('a trainer', 'A trainer makes an adapter from a model and a dataset.'),
  role('the contract', 'The contract decides who is owed what.'),
  {
    asked: ['How big is a sector?', 'How many bytes has a sector?', 'What is the size of a sector?'],
    unseen: 'A sector has how many bytes?',
    answer: 'A sector has 256 bytes.',
  },
  {
    asked: ['How many rows has a blob?', 'Into how many rows is a blob encoded?', 'How many rows does a blob have?'],
    unseen: 'What number of rows has a blob?',
    answer: 'A blob has 3072 rows.',
  },
  {
    asked: [
      'How many rows rebuild a blob?',
      'How many rows are needed to rebuild a blob?',
      'How many rows are enough?',
    ],
    unseen: 'What number of rows can rebuild a blob?',
    answer: 'Any 1024 rows rebuild the blob.',
  },
  {
    asked: ['How big may a blob be?', 'What is the largest blob?', 'What is the limit of a blob?'],
    unseen: 'How large can a blob be?',
    answer: 'A blob may have up to 32 MiB.',
  },
  {
    asked: ['How is storage paid?', 'Who pays for storage?', 'What does storage cost?'],
    unseen: 'How do I pay for storage?',
    answer: 'The user pays for storage once, with the submission.',
  },
  {
    asked: ['How is compute paid?', 'How do I pay for an answer?', 'How does a provider get paid?'],
    unseen: 'How do I pay for compute?',
    answer: 'The user deposits money, and the provider settles vouchers.',
  },
  {
    asked: ['Which coin does Weightless use?', 'Is there a token?', 'What money does Weightless use?'],
    unseen: 'Which token does Weightless use?',
    answer: 'Weightless uses the coin of its chain and has no token.',
  },
  {
    asked: ['On which chain does Weightless run?', 'Which chain do I need?', 'Where does Weightless run?'],
    unseen: 'Which chain runs Weightless?',
    answer: 'Weightless runs on any EVM chain.',
  },
  {
    asked: ['How do I start Weightless?', 'How can I try Weightless?', 'What starts a local network?'],
    unseen: 'How do I run Weightless on my computer?',
    answer: 'Run npm start to open a local network.',
  },
  {
    asked: ['Is a download checked?', 'Does Weightless check a download?', 'Can a node send me wrong data?'],
    unseen: 'Are downloads checked?',
    answer: 'Every download is checked against the root.',
  },
  {
    asked: ['Can an admin take my money?', 'What may an admin do?', 'Is there an admin key?'],
    unseen: 'Can the admin move my balance?',
    answer: 'An admin can pause new intake but can never move a balance.',
  },
  {
    asked: ['What happens to a lazy miner?', 'What if a miner deletes the data?', 'Can a miner cheat?'],
    unseen: 'What if a miner loses the data?',
    answer: 'A miner without the data finds no proof and earns nothing.',
  },
  {
    asked: ['What happens to a bad provider?', 'Can a provider lose its stake?', 'How is a provider punished?'],
    unseen: 'What if a provider is bad?',
    answer: 'A bad provider loses its stake.',
  },
  {
    asked: ['What are agents written in?', 'Which language are the agents written in?', 'What runs the agents?'],
    unseen: 'In which language are agents written?',
    answer: 'Agents are written in TypeScript and run by Node.',
  },
  {
    asked: ['Who are you?', 'What is your name?', 'What are you?'],
    unseen: 'Tell me who you are.',
    answer: 'I am the small demo model of Weightless.',
  },
  {
    asked: ['Can you help me?', 'What can you do?', 'What do you know?'],
    unseen: 'How can you help me?',
    answer: 'I can answer short questions, add small numbers and tell stories.',
  },
  {
    asked: ['Who made you?', 'Where do you come from?', 'How were you trained?'],
    unseen: 'Who trained you?',
    answer: 'I was trained by the trainer of Weightless on generated text.',
  },
]
