// Copyright (C) The ngx_http_rbgv_auth authors

// Ten thousand keys: they come page by page, and what the page does with them
// takes no more than what it does with the thousandth part, but for a factor.

import { is, note, ok, run, setup, signIn } from './lib.mjs';

const TURNS = 15;

await run(async (tab) => {
    const rows = tab.locator('tr[data-id]');

    await signIn(tab);
    await rows.first().waitFor();
    await tab.getByText(/keys, as of/).waitFor();

    is(await tab.getByRole('button', { name: /^All/ }).locator('.count')
           .textContent(), setup.many.toLocaleString('en-GB'),
       'all keys are there');
    is(await rows.count(), 50, 'a part of them is in the page');

    for (const [name, expression] of [
        ['search by name', (i) => ['#search', `bulk-${i}`]],
        ['search all', (i) => ['#search', i % 2 ? '' : 'bulk']],
        ['sort', (i) => [i % 2 ? '[data-order="volume"]'
                               : '[data-order="name"]']],
    ]) {
        const times = await tab.evaluate(measure, Array.from({ length: TURNS },
            (_, i) => expression(i)));

        note(`${name}: ${times[Math.floor(TURNS / 2)].toFixed(1)} ms, at most `
             + `${times[TURNS - 1].toFixed(1)} ms of scripts`);
    }

    await tab.locator('#search').fill('bulk-77');
    await rows.first().waitFor();
    ok((await rows.locator('.name').allTextContents())
           .every((name) => name.includes('bulk-77')), 'the search is right');

    await tab.locator('#search').fill('');
    await tab.getByRole('button', { name: 'Next' }).click();
    await tab.getByText('51–100 of').waitFor();
    ok(true, 'pages are turned');
});


// in the page: a field is typed into, or a button pressed
function measure(steps) {
    const times = steps.map(([selector, text]) => {
        const node = document.querySelector(selector);
        const start = performance.now();

        if (text === undefined) {
            node.click();

        } else {
            node.value = text;
            node.dispatchEvent(new Event('input', { bubbles: true }));
        }

        return performance.now() - start;
    });

    return times.sort((a, b) => a - b);
}
