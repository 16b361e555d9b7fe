/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Elements.  Text becomes text nodes and attributes are set one by one:
 * nothing here, or anywhere on the page, is parsed as HTML.
 */

const SVG = 'http://www.w3.org/2000/svg';

/* 16 x 16, strokes */
const ICONS = {
    alert:   'M8 2 1.5 13.5h13zM8 6.5v3.2M8 11.6v.1',
    back:    'M10 3 5 8l5 5',
    check:   'm3 8.5 3.2 3.2L13 5',
    close:   'm4 4 8 8m0-8-8 8',
    copy:    'M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3',
    dark:    'M13.5 9.5A6 6 0 1 1 6.5 2.5a4.8 4.8 0 0 0 7 7z',
    down:    'M8 3v10m4-4-4 4-4-4',
    export:  'M8 2v8m3.5-3.5L8 10 4.5 6.5M2.5 11v2.5h11V11',
    key:     'M8.5 8a3 3 0 1 1-6 0 3 3 0 0 1 6 0zm0 0h5.5m-2 0v2.5',
    light:   'M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 1v1.5M8 13.5V15M1 8h1.5'
             + 'M13.5 8H15M3 3l1 1m8 8 1 1M3 13l1-1m8-8 1-1',
    plus:    'M8 3v10M3 8h10',
    refresh: 'M13.5 8A5.5 5.5 0 1 1 11.7 3.9L13.5 5.5M13.5 2v3.5H10',
    rotate:  'M2.5 7A5.6 5.6 0 0 1 12 4.2L13.5 6M13.5 2.5V6H10M13.5 9A5.6 5.6'
             + ' 0 0 1 4 11.8L2.5 10M2.5 13.5V10H6',
    search:  'M7 2.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9zM10.3 10.3l3.2 3.2',
    signout: 'M6.5 2.5h-4v11h4M10 4.5 13.5 8 10 11.5M13.5 8H6',
    system:  'M2 3h12v8H2zM5.5 13.5h5M8 11v2.5',
    up:      'M8 13V3m4 4L8 3 4 7',
};


/*
 * el('p', { class: 'note', onclick: f }, 'text', child, ...): false, null and
 * undefined are left out, as values and as children.
 */

export function el(name, attributes, ...children) {
    return fill(document.createElement(name), attributes, children);
}


export function svg(name, attributes, ...children) {
    return fill(document.createElementNS(SVG, name), attributes, children);
}


function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes ?? {})) {
        if (value === undefined || value === null || value === false) {
            continue;
        }

        if (name.startsWith('on')) {
            node.addEventListener(name.slice(2), value);

        } else {
            node.setAttribute(name, value === true ? '' : value);
        }
    }

    node.append(...children.flat(Infinity).filter(
        (child) => child !== undefined && child !== null && child !== false));

    return node;
}


export function icon(name) {
    return svg('svg', { class: 'icon', viewBox: '0 0 16 16',
                        'aria-hidden': 'true' },
               svg('path', { d: ICONS[name] }));
}


export function button(label, { icon: name, ...attributes } = {}) {
    return el('button', { type: 'button', class: 'button', ...attributes },
              name && icon(name), el('span', null, label));
}


/* a button that is a picture: the label is for screen readers and hovering */

export function iconButton(name, label, attributes) {
    return el('button', { type: 'button', class: 'button icon-only',
                          title: label, 'aria-label': label, ...attributes },
              icon(name));
}


export function copyButton(text, label, attributes) {
    const copy = async () => {
        await copyText(text, node);
        node.replaceChildren(icon('check'));
        announce('Copied');
        setTimeout(() => node.replaceChildren(icon('copy')), 1500);
    };

    const node = iconButton('copy', label, { class: 'copy', onclick: copy,
                                             ...attributes });

    return node;
}


/* the clipboard needs HTTPS or localhost; selected text does not */

async function copyText(text, near) {
    try {
        await navigator.clipboard.writeText(text);
        return;

    } catch {
        const field = el('textarea', { class: 'hidden', readonly: true });

        field.value = text;
        near.after(field);
        field.select();
        document.execCommand('copy');
        field.remove();
        near.focus();
    }
}


export function badge(text, kind) {
    return el('span', { class: `badge ${kind ?? ''}` }, text);
}


/* for screen readers */

export function announce(text) {
    document.getElementById('live').textContent = text;
}


export function toast(text, kind = 'good') {
    const node = el('div', { class: `toast ${kind}` },
                    icon(kind === 'good' ? 'check' : 'alert'),
                    el('span', null, text));

    document.getElementById('toasts').append(node);
    setTimeout(() => node.remove(), 6000);
}


/*
 * A table that scrolls if it is too wide.  Columns are names, or
 * { number: NAME }; rows are arrays, and their first cell is a heading.
 */

export function table(label, columns, rows) {
    const numbers = columns.map((column) => column.number && 'number');

    return el('div', { class: 'scroll', tabindex: 0, role: 'region',
                       'aria-label': label },
              el('table', { class: 'plain' },
                 el('thead', null, el('tr', null, columns.map((column, i) =>
                     el('th', { scope: 'col', class: numbers[i] },
                        column.number ?? column)))),
                 el('tbody', null, rows.map(([heading, ...cells]) =>
                     el('tr', null, el('th', { scope: 'row' }, heading),
                        cells.map((cell, i) =>
                            el('td', { class: numbers[i + 1] }, cell)))))));
}


/* what the API has refused, with what the log of the gateway calls it */

export function errorBox(error, retry) {
    return el('div', { class: 'notice bad', role: 'alert' }, icon('alert'),
              el('div', null,
                 el('p', null, error.message),
                 error.requestId && el('p', { class: 'fine' }, 'Request ',
                                       el('code', null, error.requestId))),
              retry && button('Try again', { onclick: retry }));
}


export function emptyBox(title, text, ...more) {
    return el('div', { class: 'empty' }, icon('key'), el('h2', null, title),
              el('p', null, text), more);
}
