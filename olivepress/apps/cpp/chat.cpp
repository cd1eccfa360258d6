// Streams a release's answer: ./chat RELEASE ADAPTER QUESTION [TEMPLATE]; "" for no adapter. Built as README.md says.
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include "genai.h"
void check(OgaResult* failed) {
  if (!failed) return;
  std::cerr << OgaResultGetError(failed) << std::endl;
  std::_Exit(1);
}
int main(int count, char** words) {
  if (count < 4) return std::cerr << "usage: chat RELEASE ADAPTER QUESTION [TEMPLATE]\n", 2;
  std::string folder = words[1], adapter = words[2], said, form;
  for (const char* c = words[3]; *c; c++) said += *c == '\n' ? "\\n" : std::string(*c == '"' || *c == '\\', '\\') + *c;
  std::ifstream file(count > 4 ? words[4] : "");
  form.assign(std::istreambuf_iterator<char>(file), {});
  OgaModel* model; OgaTokenizer* tokenizer; OgaTokenizerStream* stream; OgaAdapters* adapters; OgaSequences* prompt;
  OgaGeneratorParams* params; OgaGenerator* generator; const char* text; const int32_t* token; size_t rows, tokens = 0;
  check(OgaCreateModel((folder + "/model").c_str(), &model)), check(OgaCreateTokenizer(model, &tokenizer));
  std::string messages = "[{\"role\": \"user\", \"content\": \"" + said + "\"}]";
  const char* other = form.empty() ? nullptr : form.c_str();
  check(OgaTokenizerApplyChatTemplate(tokenizer, other, messages.c_str(), nullptr, true, &text));
  check(OgaCreateSequences(&prompt)), check(OgaTokenizerEncode(tokenizer, text, prompt));
  check(OgaCreateGeneratorParams(model, &params)), check(OgaGeneratorParamsSetSearchBool(params, "do_sample", false));
  check(OgaGeneratorParamsSetSearchNumber(params, "max_length", OgaSequencesGetSequenceCount(prompt, 0) + 128.0));
  check(OgaCreateGenerator(model, params, &generator)), check(OgaCreateAdapters(model, &adapters));
  if (!adapter.empty()) {  // before the prompt is read
    check(OgaLoadAdapter(adapters, (folder + "/adapters/" + adapter + ".onnx_adapter").c_str(), adapter.c_str()));
    check(OgaSetActiveAdapter(generator, adapters, adapter.c_str()));
  }
  check(OgaGenerator_AppendTokenSequences(generator, prompt)), check(OgaCreateTokenizerStream(tokenizer, &stream));
  for (; !OgaGenerator_IsDone(generator); tokens++) {
    check(OgaGenerator_GenerateNextToken(generator)), check(OgaGenerator_GetNextTokens(generator, &token, &rows));
    check(OgaTokenizerStreamDecode(stream, *token, &text)), std::cout << text << std::flush;
  }
  std::cerr << "\n" << tokens << " tokens" << std::endl;
  std::_Exit(0);  // and the system takes back what they hold
}
