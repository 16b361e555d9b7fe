// Copyright (C) The ngx_http_rbgv_auth authors

// The pictures in docs/: both themes, wide and narrow.

import { page, run, setup, signIn } from './lib.mjs';

for (const colorScheme of ['light', 'dark']) {
    for (const [suffix, width, height] of [['', 1360, 900],
                                           ['-narrow', 400, 860]])
    {
        await run(async (tab) => {
            const shoot = (name) => tab.screenshot({
                path: `${setup.docs}/console-${name}-${colorScheme}`
                      + `${suffix}.png`,
            });

            await signIn(tab, '#/keys?sort=-volume');
            await tab.getByText(/keys, as of/).waitFor();
            await tab.mouse.move(0, 0);
            await shoot('keys');

            await tab.goto(page(`#/keys/${setup.id}`));
            await tab.locator('.plot svg').nth(1).waitFor();
            await tab.mouse.move(0, 0);
            await shoot('key');
        }, { colorScheme, viewport: { width, height }, deviceScaleFactor: 1.5 });
    }
}
