// Parses modules, and runs none: reads a JSON list of {name, language, text}, prints what is wrong with each.
import { stripTypeScriptTypes } from "node:module";
import { SourceTextModule } from "node:vm";
import { text } from "node:stream/consumers";

for (const block of JSON.parse(await text(process.stdin))) {
  try {
    new SourceTextModule(block.language === "ts" ? stripTypeScriptTypes(block.text) : block.text);
  } catch (error) {
    console.log(`${block.name}: ${error}`);
  }
}
