/** English of many shapes, enough to train a vocabulary of a few hundred tokens on. */
export const sampleText = `The river begins as a small spring under the stones of the hill. In the morning the water is cold and clear, and
children from the village come to fill their bottles. By noon the sun has warmed the path, and the old man who keeps the
bridge sits down in the shade. "Where are you going?" he asks everyone who passes. Some say they are going to the market;
others do not answer. He writes their number in a book: 12 on Monday, 34 on Tuesday, 107 on the day of the fair.

A computer stores numbers as rows of small switches. Eight of them make a byte; 256 different bytes are possible, from 0 to
255. When many machines keep the same data, one of them may fail and nothing is lost. To be sure of what was stored, take a
hash of it: a short number which changes when a single letter changes. Whoever knows the hash can check what strangers send.

What is the capital of France? The capital of France is Paris. What colour is the sky on a clear day? It is blue. Which is
larger, 17 or 71? The larger one is 71. How many legs does a spider have? A spider has eight legs. Can you write a short
answer in JSON? Yes: {"name": "Anna", "age": 31, "likes": ["apples", "music"], "married": true, "city": null}.

function add(first, second) { return first + second }
for (let i = 0; i < 10; i++) { console.log("line " + i) }
if (x > 3 && y <= 4) { result = [x, y] } else { result = [] }

Dear friend, thank you for your letter. It was good to hear that you and your family are well. We had rain for three weeks,
and the garden is green again. The apple trees that we planted together have flowers now; my sister says there will be more
fruit than we can eat. Please come and visit us before the summer ends. You will always find an open door, bread on the
table, and someone who is glad to see you. With love from all of us.

Once there was a fox who wanted to learn how to count. He went to the owl, because the owl knew everything about the night.
"How many stars are there?" asked the fox. "More than you can count," said the owl, "but you can begin with one." So the
fox began: one, two, three, four, five. When the morning came he had reached a thousand, and he was happy and very tired.
`
