/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * The table of keys.  What is searched, filtered and sorted by is in the
 * address, so that it can be kept and shared.
 */

import * as api from './api.js';
import { sparkline } from './chart.js';
import { createKey } from './dialogs.js';
import {
    announce, button, copyButton, el, emptyBox, errorBox, icon, iconButton,
} from './dom.js';
import {
    formatClock, formatCompact, formatNumber, MINUTE, plural,
} from './format.js';
import { filterKeys, FINDINGS, ORDERS, sortKeys } from './model.js';
import {
    creditBar, environmentBadge, findingBadges, limitList, moment,
    statusBadge, tile,
} from './parts.js';
import * as store from './store.js';

const ROWS = 50;
const OLD = MINUTE;
const PAUSE = 200;

const COLUMNS = [
    { id: 'name', label: 'Name' },
    { id: 'environment', label: 'Environment' },
    { id: 'owner', label: 'Owner' },
    { id: 'status', label: 'Status' },
    { id: 'volume', label: 'Last 30 days' },
    { id: 'today', label: 'Today', number: true },
    { id: 'used', label: 'Last used' },
    { id: 'limits', label: 'Limits' },
    { id: 'credits', label: 'Credits' },
];

const FILTERS = { text: 'q', environment: 'env', status: 'status',
                  finding: 'show' };


/* returns what is to be called when the page is left */

export function keysPage(main, query) {
    const page = new KeysPage(main, query);

    return () => page.close();
}


class KeysPage {
    constructor(main, query) {
        this.filter = {};
        this.sorted = { keys: [] };
        this.wanted = null;
        this.listening = new AbortController();

        this.readAddress(query);
        this.build(main);

        this.unsubscribe = store.subscribe(() => {
            this.sorted = { keys: [] };
            this.renderSoon();
        });

        document.addEventListener('visibilitychange', () => this.freshen(),
                                  { signal: this.listening.signal });

        this.freshen();
        this.render();
    }

    close() {
        clearTimeout(this.wanted);
        this.listening.abort();
        this.unsubscribe();
    }

    freshen() {
        if (!document.hidden && !store.loadState().loading
            && api.now() - store.loadState().loadedAt > OLD)
        {
            store.load();
        }
    }

    /* the address */

    readAddress(query) {
        for (const [name, short] of Object.entries(FILTERS)) {
            this.filter[name] = query.get(short) ?? '';
        }

        const [, minus, order] = /^(-?)(\w+)$/.exec(query.get('sort')) ?? [];

        this.order = Object.hasOwn(ORDERS, order ?? '') ? order : 'created';
        this.descending = order ? minus === '-' : true;
        this.first = (Math.max(1, Number(query.get('page')) || 1) - 1) * ROWS;
    }

    writeAddress() {
        const query = new URLSearchParams();

        for (const [name, short] of Object.entries(FILTERS)) {
            if (this.filter[name]) {
                query.set(short, this.filter[name]);
            }
        }

        if (this.order !== 'created') {
            query.set('sort', (this.descending ? '-' : '') + this.order);
        }

        if (this.first > 0) {
            query.set('page', this.first / ROWS + 1);
        }

        const text = query.toString();

        history.replaceState(null, '', `#/keys${text && '?'}${text}`);
    }

    /* what stays */

    build(main) {
        this.updated = el('p', { class: 'sub' });
        this.summary = el('section', { class: 'tiles',
                                     'aria-label': 'Summary' });
        this.search = this.buildSearch();
        this.environment = this.buildSelect('Environment', 'environment');
        this.status = this.buildSelect('Status', 'status');
        this.chips = el('div', { class: 'chips', role: 'group',
                                 'aria-label': 'Keys that need attention' });
        this.problem = el('div');
        this.head = el('tr', { role: 'row' });
        this.body = el('tbody', { role: 'rowgroup',
                                  onkeydown: (event) => this.move(event),
                                  onclick: (event) => this.open(event) });
        this.table = this.buildTable();
        this.below = el('div');
        this.pager = el('nav', { class: 'pager', 'aria-label': 'Pages' });

        main.replaceChildren(
            el('div', { class: 'page-head' },
               el('div', null, el('h1', null, 'API keys'), this.updated),
               el('div', { class: 'actions' },
                  iconButton('refresh', 'Refresh',
                             { onclick: () => store.load() }),
                  button('Export', { icon: 'export',
                                     onclick: () => this.exportCsv() }),
                  button('Create key', { icon: 'plus',
                                         class: 'button primary',
                                         onclick: createKey }))),
            this.summary,
            el('div', { class: 'card' },
               el('div', { class: 'toolbar' },
                  el('div', { class: 'search' }, icon('search'), this.search,
                     el('kbd', { 'aria-hidden': 'true' }, '/')),
                  this.environment, this.status, this.chips),
               this.problem, this.table, this.below, this.pager));
    }

    buildSearch() {
        return el('input', {
            type: 'search', id: 'search', autocomplete: 'off',
            spellcheck: 'false', maxlength: 200,
            placeholder: 'Search name, id, owner, note',
            'aria-label': 'Search name, id, owner, note',
            value: this.filter.text,
            oninput: ({ target }) => this.set({ text: target.value }),
        });
    }

    buildSelect(label, name) {
        return el('select', {
            'aria-label': label,
            onchange: ({ target }) => this.set({ [name]: target.value }),
        });
    }

    buildTable() {
        return el('div', { class: 'table-scroll', tabindex: 0, role: 'region',
                           'aria-label': 'Keys' },
                  el('table', { class: 'keys', role: 'table' },
                     el('caption', { class: 'hidden' },
                        'API keys. Headings sort; up and down go from key to '
                        + 'key, Enter opens one.'),
                     el('thead', { role: 'rowgroup' }, this.head), this.body));
    }

    /* what the reader does */

    set(filter) {
        Object.assign(this.filter, filter);
        this.first = 0;
        this.changed();
    }

    sortBy(order) {
        this.descending = order === this.order ? !this.descending
                          : ORDERS[order].descending === true;
        this.order = order;
        this.first = 0;
        this.changed();
        this.head.querySelector(`[data-order="${order}"]`).focus();
    }

    turnTo(first) {
        this.first = first;
        this.changed();
        this.table.scrollIntoView({ block: 'nearest' });
        this.table.focus({ preventScroll: true });
    }

    changed() {
        this.writeAddress();
        this.render();
        announce(plural(this.matches.length, 'key'));
    }

    move(event) {
        const links = [...this.body.querySelectorAll('a.name')];
        const row = event.target.closest('tr');
        const here = links.findIndex((link) => row.contains(link));
        const to = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0,
                     End: links.length - 1 }[event.key];

        if (links[to]) {
            event.preventDefault();
            links[to].focus();
        }
    }

    open(event) {
        const row = event.target.closest('tr[data-id]');

        if (row && !event.target.closest('a, button')
            && getSelection().isCollapsed)
        {
            location.hash = `#/keys/${row.dataset.id}`;
        }
    }

    exportCsv() {
        const blob = new Blob([csv(this.matches)], { type: 'text/csv' });
        const link = el('a', { href: URL.createObjectURL(blob),
                               download: 'keys.csv' });

        link.click();
        URL.revokeObjectURL(link.href);
    }

    /* what changes */

    /* while keys come, a few times a second */

    renderSoon() {
        this.wanted ??= setTimeout(() => {
            this.wanted = null;
            this.render();
        }, store.loadState().loading ? PAUSE : 0);
    }

    render() {
        const { matches, counts } = filterKeys(this.inOrder(), this.filter);
        const last = Math.max(0, matches.length - 1);

        this.matches = matches;
        this.first = Math.min(this.first, last - last % ROWS);

        this.renderState();
        this.renderFilters(counts);
        this.renderHead();
        this.renderRows(matches.slice(this.first, this.first + ROWS));
        this.renderPager();
    }

    /* sorted once for all searches */

    inOrder() {
        const { order, descending } = this;

        if (this.sorted.order !== order
            || this.sorted.descending !== descending)
        {
            this.sorted = { order, descending, fresh: true,
                            keys: sortKeys(store.allKeys(), order,
                                           descending) };
        }

        return this.sorted.keys;
    }

    renderState() {
        const { loading, complete, error, loadedAt } = store.loadState();
        const { keys, fresh } = this.sorted;

        this.updated.textContent = loading
            ? `Loading, ${plural(keys.length, 'key')} so far`
            : `${plural(keys.length, 'key')}`
              + (complete ? `, as of ${formatClock(loadedAt)}` : '');

        this.table.setAttribute('aria-busy', loading);
        this.problem.replaceChildren(
            ...error ? [errorBox(error, () => store.load())] : []);

        if (fresh) {
            this.sorted.fresh = false;
            this.summary.replaceChildren(...tiles(keys));
        }
    }

    renderFilters({ environment, status, finding }) {
        options(this.environment, 'All environments', environment,
                this.filter.environment);
        options(this.status, 'Any status', status, this.filter.status);

        const chip = (id, label, about) => el('button', {
            type: 'button', class: 'chip', title: about,
            'aria-pressed': String(this.filter.finding === id),
            onclick: () => {
                this.set({ finding: this.filter.finding === id ? '' : id });
                this.chips.querySelector('[aria-pressed="true"]')?.focus();
            },
        }, el('span', null, label),
           el('span', { class: 'count' }, formatNumber(finding.of(id))));

        const shown = FINDINGS.filter(({ id, always }) => always
            || finding.of(id) > 0 || id === this.filter.finding);

        this.chips.replaceChildren(
            chip('', 'All'),
            ...shown.map(({ id, label, about }) => chip(id, label, about)));
    }

    renderHead() {
        this.head.replaceChildren(...COLUMNS.map(({ id, label, number }) => {
            const by = this.order === id;
            const direction = this.descending ? 'descending' : 'ascending';

            return el('th', { scope: 'col', role: 'columnheader',
                              class: number ? 'number' : '',
                              'aria-sort': by ? direction : 'none' },
                      el('button', { type: 'button', class: 'sort',
                                     'data-order': id,
                                     onclick: () => this.sortBy(id) },
                         label,
                         by && icon(this.descending ? 'down' : 'up')));
        }));
    }

    renderRows(keys) {
        const { loading, error } = store.loadState();
        const focused = document.activeElement?.closest('tr[data-id]')
                        ?.dataset.id;

        this.body.replaceChildren(...keys.map(row));
        this.below.replaceChildren();
        this.table.hidden = keys.length === 0;

        if (focused) {
            this.body.querySelector(`tr[data-id="${focused}"] a.name`)
                ?.focus({ preventScroll: true });
        }

        if (keys.length === 0 && loading) {
            this.below.append(skeleton());

        } else if (keys.length === 0 && !error) {
            this.below.append(this.nothing());
        }
    }

    nothing() {
        if (this.sorted.keys.length === 0) {
            return emptyBox('No keys yet',
                            'A key lets a client call the API.',
                            button('Create key', { icon: 'plus',
                                                   class: 'button primary',
                                                   onclick: createKey }));
        }

        return emptyBox('No key matches', 'Search for less, or show all.',
                        button('Show all keys', { onclick: () => {
                            this.search.value = '';
                            this.set({ text: '', environment: '', status: '',
                                       finding: '' });
                            this.search.focus();
                        } }));
    }

    renderPager() {
        const n = this.matches.length;
        const step = (label, first) => button(label, {
            disabled: first < 0 || first >= n,
            onclick: () => this.turnTo(first),
        });

        this.pager.hidden = n === 0;
        this.pager.replaceChildren(
            el('span', null, `${formatNumber(this.first + 1)}–`
                             + `${formatNumber(Math.min(this.first + ROWS, n))}`
                             + ` of ${formatNumber(n)}`),
            step('Previous', this.first - ROWS),
            step('Next', this.first + ROWS));
    }
}


function options(select, all, counts, chosen) {
    const names = counts.names().filter(Boolean);

    if (chosen && !names.includes(chosen)) {
        names.push(chosen);
    }

    select.replaceChildren(
        el('option', { value: '' }, all),
        ...names.map((name) => el('option', { value: name },
            `${name} (${formatNumber(counts.of(name))})`)));
    select.value = chosen;
}


function row(key) {
    const cell = (label, attributes, ...children) =>
        el('td', { role: 'cell', 'data-label': label, ...attributes },
           children);

    return el('tr', { role: 'row', 'data-id': key.id },
        el('th', { scope: 'row', role: 'rowheader' },
           el('a', { class: 'name', href: `#/keys/${key.id}` },
              key.name || '(no name)'),
           el('span', { class: 'id' }, el('code', null, key.id),
              copyButton(key.id, `Copy the id ${key.id}`))),
        cell('Environment', { class: 'unlabelled' },
             environmentBadge(key.environment)),
        cell('Owner', { class: 'owner last' },
             key.owner || el('span', { class: 'faint' }, '—')),
        cell('Status', { class: 'unlabelled' },
             el('span', { class: 'badges' }, statusBadge(key.status),
                findingBadges(key))),
        cell('Last 30 days', { class: 'volume unlabelled' },
             el('span', null,
                sparkline(key.days, key.refusedDays, api.now()),
                el('span', { class: 'total' }, formatCompact(key.volume)))),
        cell('Today', { class: 'number' }, formatNumber(key.today)),
        cell('Last used', { class: 'used' }, moment(key.used)),
        cell('Limits', { class: 'last' }, limitList(key.limits, '—')),
        cell('Credits', { class: 'last' }, creditBar(key)));
}


function tiles(keys) {
    const days = new Array(30).fill(0);
    const refused = new Array(30).fill(0);
    let active = 0;
    let attention = 0;

    for (const key of keys) {
        active += key.status === 'active';
        attention += FINDINGS.some(({ id, severity }) => severity === 'high'
                                                   && key.findings.has(id));

        for (let i = 0; i < 30; i++) {
            days[i] += key.days[i];
            refused[i] += key.refusedDays[i];
        }
    }

    return [
        tile('Active keys', formatNumber(active),
             `of ${formatNumber(keys.length)}`),
        tile('Requests today', formatCompact(days[29]),
             `${formatCompact(days[28])} yesterday`),
        tile('Refused today', formatCompact(refused[29]),
             `${formatCompact(refused[28])} yesterday`),
        tile('Urgent', formatNumber(attention),
             'spiking, overdue, expiring, low'),
        el('div', { class: 'tile wide' },
           el('p', { class: 'label' }, 'All keys, 30 days'),
           sparkline(days, refused, api.now())),
    ];
}


function skeleton() {
    return el('div', { class: 'skeleton', 'aria-hidden': 'true' },
              Array.from({ length: 8 }, () => el('div')));
}


/* RFC 4180; a spreadsheet must not take a name for a formula */

function csv(keys) {
    const field = (value) => {
        const text = String(value ?? '');

        return `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text)
                   .replaceAll('"', '""')}"`;
    };

    const columns = ['client_id', 'key_fingerprint', 'environment', 'owner',
                     'note', 'status', 'created_at', 'expires_at',
                     'last_used_at', 'requests_today', 'requests_30d',
                     'refused_30d', 'credits', 'credits_left'];

    return [columns, ...keys.map(({ item }) => columns.map((c) => item[c]))]
        .map((fields) => `${fields.map(field).join(',')}\r\n`).join('');
}
