/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * What the gateway is set to, and how its store and zone are.
 */

import { badge, el, errorBox, table } from './dom.js';
import {
    formatDuration, formatLimit, formatNumber, formatPercent,
} from './format.js';
import { environmentBadge, gauge, limitList, tile } from './parts.js';
import * as store from './store.js';


export function gatewayPage(main) {
    const body = el('div');

    const load = async () => {
        try {
            body.replaceChildren(...cards(await store.config({ fresh: true })));

        } catch (error) {
            body.replaceChildren(errorBox(error, load));
        }
    };

    main.replaceChildren(
        el('div', { class: 'page-head' }, el('h1', null, 'Gateway')), body);
    load();
}


function cards(config) {
    const { keys, capacity } = config.zone;
    const part = capacity > 0 ? keys / capacity : 0;

    return [
        el('section', { class: 'tiles' },
           tile('Store', badge(config.store.up ? 'reachable' : 'away',
                               `verdict ${config.store.up ? 'good' : 'bad'}`),
                `${config.store.name}, database ${config.store.db}`),
           tile('Zone', formatNumber(keys),
                [`of ${formatNumber(capacity)} keys, ${formatPercent(part)}`,
                 gauge(part, part > 0.9 ? 'bad' : 'good')]),
           tile('Pepper', config.pepper ? 'set' : 'none',
                config.pepper ? 'digests are keyed'
                              : 'digests are plain SHA-256'),
           tile('Version', config.version, `schema ${config.schema}`)),
        el('section', { class: 'card padded' },
           el('h2', null, 'Environments'),
           table('Environments', ['Name', 'Rotation', 'Limits of new keys'],
                 config.environments.map((environment) => [
                     environmentBadge(environment.name),
                     environment.rotation_seconds
                     ? `every ${formatDuration(environment.rotation_seconds
                                               * 1e3)}`
                     : 'not asked for',
                     limitList(Object.entries(environment.limits),
                               'those of the location'),
                 ]))),
        el('section', { class: 'card padded' },
           el('h2', null, 'Limits of locations'),
           config.limits.length === 0
           ? el('p', { class: 'fine' }, 'No location has a limit.')
           : table('Limits of locations', ['Policy', 'Limit', 'Environment'],
                   config.limits.map((limit) => [
                       limit.name,
                       formatLimit(`${limit.quota}r/`
                                   + `${span(limit.window_seconds)}`),
                       limit.environment ? environmentBadge(limit.environment)
                                         : 'any',
                   ]))),
    ];
}


/* 90 as "90s", 3600 as "1h" */

function span(seconds) {
    const [unit, length] = [['d', 86400], ['h', 3600], ['m', 60], ['s', 1]]
        .find(([, size]) => seconds % size === 0);

    return `${seconds / length}${unit}`;
}
