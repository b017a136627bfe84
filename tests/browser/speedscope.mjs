// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
// Opens a trace in speedscope, from file://, in a headless Chromium; exports what speedscope made of
// it in its own format, and takes a screenshot.
//
//   node speedscope.mjs TRACE SCREENSHOT.png
//
// Prints one JSON object: {"profiles": [{"name", "opens", "closes", "names": {name: opens}}],
// "console": [what the page complained of]}. The exit status is 0 unless the page cannot be used.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import url from 'node:url';
import {chromium} from 'playwright-core';

const [trace, screenshot] = process.argv.slice(2);
const here = path.dirname(url.fileURLToPath(import.meta.url));
const limit_ms = 60000;
const drawn_bytes = 20000;  // an empty picture has a few thousand

function findChromium() {
	for (const name of ['chromium', 'chromium-browser', 'google-chrome'])
		for (const folder of process.env.PATH.split(':'))
			if (fs.existsSync(path.join(folder, name)))
				return path.join(folder, name);
	throw new Error('no chromium in PATH');
}

// The way of speedscope's own command line: a script beside the page hands the file over.
function writeLoader(folder) {
	const base64 = fs.readFileSync(trace).toString('base64');
	const name = JSON.stringify(path.basename(trace));
	const file = path.join(folder, 'profile.js');
	fs.writeFileSync(file, `speedscope.loadFileFromBase64(${name}, ${JSON.stringify(base64)})`);
	return file;
}

function summarize(exported) {
	const frames = exported.shared.frames;
	return exported.profiles.map(profile => {
		const names = {};
		let opens = 0, closes = 0;
		for (const event of profile.events ?? []) {
			if (event.type === 'C') {
				closes++;
				continue;
			}
			opens++;
			const name = frames[event.frame].name;
			names[name] = (names[name] ?? 0) + 1;
		}
		return {name: profile.name, opens, closes, names};
	});
}

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'speedscope.'));
const browser = await chromium.launch({
	executablePath: findChromium(),
	args: ['--no-sandbox', '--allow-file-access-from-files', '--use-angle=swiftshader',
	       '--enable-unsafe-swiftshader'],
});
try {
	const page = await browser.newPage({viewport: {width: 1280, height: 440}, acceptDownloads: true});
	const complaints = [];
	page.on('console', m => ['error', 'warning'].includes(m.type()) && complaints.push(m.text()));
	page.on('pageerror', error => complaints.push(String(error)));
	page.on('dialog', dialog => {
		complaints.push(dialog.message());
		dialog.dismiss();
	});
	const index = url.pathToFileURL(path.join(here, 'node_modules/speedscope/dist/release/index.html'));
	await page.goto(`${index}#localProfilePath=${writeLoader(folder)}`);
	await page.getByText('Time Order').waitFor({timeout: limit_ms});
	const downloading = page.waitForEvent('download', {timeout: limit_ms});
	await page.getByText('Export').click();
	const file = path.join(folder, 'exported.json');
	await (await downloading).saveAs(file);
	const exported = JSON.parse(fs.readFileSync(file, 'utf8'));
	// until the canvas is drawn
	for (const end = Date.now() + limit_ms; Date.now() < end; await page.waitForTimeout(500))
		if ((await page.screenshot({path: screenshot})).length >= drawn_bytes)
			break;
	console.log(JSON.stringify({profiles: summarize(exported), console: complaints}));
} finally {
	await browser.close();
	fs.rmSync(folder, {recursive: true, force: true});
}
