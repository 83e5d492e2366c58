"""Every family of sequence classifiers that transformers can build here, at a tiny size: loaded as
a base model, trained beside with LoRA, calibrated, and read in batches."""
import copy, warnings

import numpy as np, pytest, torch, transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (AutoModelForCausalLM, AutoModelForMaskedLM,
                          AutoModelForSequenceClassification, PreTrainedTokenizerFast)

from libdocs.classifiers.deberta import DebertaZeroShot
from libdocs.classifiers.forward import padding_of
from libdocs.classifiers.reading import read_tokens, Reading, text_ids
from libdocs.finetune.base import load_base
from libdocs.finetune.head import fold_temperature, head_of
from libdocs.finetune.lora import lora_parts, merged, with_lora
from libdocs.core.labels import LabelSchema
from libdocs.core.errors import InputError

warnings.filterwarnings('ignore')
transformers.logging.set_verbosity_error()

# As many labels as numbers a token, so that no other layer of a head can be told from the last one by its size.
WIDTH, LENGTH = 16, 40
SIZES = dict(
    vocab_size=80, hidden_size=WIDTH, d_model=WIDTH, n_embd=WIDTH, dim=WIDTH, emb_dim=WIDTH,
    embedding_size=WIDTH, word_embed_proj_dim=WIDTH, intermediate_size=32, d_ff=32, d_inner=32, dff=32,
    ffn_dim=32, hidden_dim=32, encoder_ffn_dim=32, decoder_ffn_dim=32, moe_intermediate_size=16,
    shared_expert_intermediate_size=16, num_hidden_layers=2, num_layers=2, n_layer=2, n_layers=2,
    encoder_layers=2, decoder_layers=2, num_decoder_layers=2, num_attention_heads=2, num_key_value_heads=2,
    num_heads=2, n_head=2, n_heads=2, encoder_attention_heads=2, decoder_attention_heads=2,
    head_dim=8, d_head=8, d_kv=8, rotary_dim=4, max_position_embeddings=LENGTH, n_positions=LENGTH,
    max_seq_len=LENGTH, num_experts=4, num_local_experts=4, n_routed_experts=4, num_experts_per_tok=2,
    q_lora_rank=8, kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8, entity_vocab_size=5,
    pad_token_id=0, unk_token_id=1, bos_token_id=2, cls_token_id=2, eos_token_id=3, sep_token_id=3,
    decoder_start_token_id=0, initializer_range=.3, init_std=.3)
ROPE = dict(rope_type='default', rope_theta=1e4)
OWN = {  # what a family wants besides
    'axk1': dict(n_group=1, topk_group=1),
    'cohere_compass_text': dict(rope_parameters={'full_attention': ROPE}), 'funnel': dict(block_sizes=[1, 1]),
    'gpt_neo': dict(attention_types=[[['global', 'local'], 1]]), 'longformer': dict(attention_window=8),
    'jamba': dict(attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2),
    'mistral4': dict(qk_rope_head_dim=4),
    'qwen3_5_text': dict(layer_types=['linear_attention', 'full_attention']),
    'qwen3_next': dict(layer_types=['linear_attention', 'full_attention']),
    'reformer': dict(axial_pos_embds_dim=[8, 8], axial_pos_shape=[5, 8], attention_head_size=8,
                     feed_forward_size=16, attn_layers=['local', 'lsh'], num_buckets=2),
    'roc_bert': dict(pronunciation_vocab_size=80, shape_vocab_size=80),
    't5': dict(decoder_start_token_id=0), 'xmod': dict(default_language='en_XX', languages=['en_XX']),
    'zamba': dict(num_hidden_layers=4, layers_block_type=['linear_attention', 'hybrid'] * 2),
    'zamba2': dict(layers_block_type=['linear_attention', 'hybrid'], mamba_ngroups=1, num_mem_blocks=1)}
WITHOUT = {'funnel': ['num_hidden_layers'], 'falcon': ['head_dim'], 'xlnet': ['max_position_embeddings']}
NOT_FOR_TEXTS = {
    **dict.fromkeys(('gemma3', 'modernvbert', 'ultravbert', 'qwen3_5', 't5gemma2'),
                    'has a part for pictures, which cannot be made small by these sizes'),
    **dict.fromkeys(('layoutlm', 'layoutlmv2', 'layoutlmv3', 'lilt', 'markuplm', 'tapas'),
                    'wants to know where on a page, or in which cell, a word stands'),
    **dict.fromkeys(('canine', 'perceiver'), 'reads bytes or characters, and has no fast tokenizer'),
    't5gemma': 'is made of two configurations, which cannot be made small by these sizes'}


def families():
    mapping = AutoModelForSequenceClassification._model_mapping
    for config in dict.fromkeys(mapping.keys()):
        if config.model_type not in NOT_FOR_TEXTS:
            yield config.model_type, config, mapping[config] if not isinstance(mapping[config],
                                                                               tuple) else mapping[config][0]
FAMILIES = {name: (config, cls) for name, config, cls in families()}


def small(name, **more):
    config, _ = FAMILIES[name]
    default, without = config(), WITHOUT.get(name, ())
    return config(**{k: v for k, v in SIZES.items() if hasattr(default, k) and k not in without}
                  | OWN.get(name, {}) | more)


# Tokens

MARKS = ['<pad>', '<unk>', '<s>', '</s>']
AROUND = {'xlnet': '$A:0 </s>:0 <s>:2', 'funnel': '<s>:2 $A:0 </s>:0'}  # the others: as BERT or, for decoders, nothing


def is_decoder(name):
    config = FAMILIES[name][0]
    generates = 'CausalLM' in str(AutoModelForCausalLM._model_mapping.get(config, ''))
    fills_gaps = config in AutoModelForMaskedLM._model_mapping.keys()
    return generates and not fills_gaps and not small(name).is_encoder_decoder


def tokenizer_of(name):
    "Words of one letter; the tokenizer of a decoder marks nothing, and has nothing to pad with."
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*MARKS, *'abcdefghijklmnopqrstuvwxyz<>/'])},
                                       unk_token='<unk>'))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if is_decoder(name):
        return PreTrainedTokenizerFast(tokenizer_object=words, unk_token='<unk>', eos_token='</s>', padding_side='left')
    words.post_processor = processors.TemplateProcessing(single=AROUND.get(name, '<s> $A </s>'),
                                                         special_tokens=[('<s>', 2), ('</s>', 3)])
    names = ['input_ids', 'attention_mask', *['token_type_ids'] * (name in AROUND)]
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token='<pad>', unk_token='<unk>', bos_token='<s>',
                                   cls_token='<s>', eos_token='</s>', sep_token='</s>', model_input_names=names)


def saved(name, model, folder):
    "A checkpoint in `folder`."
    if is_decoder(name) and name != 'modernbert-decoder':
        model.config.pad_token_id = None  # but for this one, decoders have none
    model.save_pretrained(folder)
    tokenizer_of(name).save_pretrained(folder)
    return str(folder)


SCHEMA = LabelSchema.from_labels([f'label {i:02}' for i in range(WIDTH)])
TEXTS = ['a b c', 'd', ' '.join('qwertyuiopasdfghjkl'), 'x </s> y <s> z <pad>', 'm n o p',
         ' '.join('abcdefghijklmnopqrstuvwxyz' * 3)]


def scores(model, padding, batches):
    return torch.cat([padding.logits(model, batch, 'cpu') for batch in batches])


def near(a, b, share=1e-4):
    assert np.abs(np.asarray(a) - np.asarray(b)).max() <= share * (
        1 + np.abs(np.asarray(b)).max()), np.abs(np.asarray(a) - np.asarray(b)).max()


def test_what_cannot_be_trained_is_refused(tmp_path):
    "On a processor MRA gives every text the same scores, for its attention is computed by CUDA kernels only."
    base = saved('mra', FAMILIES['mra'][1](small('mra')), tmp_path)
    with pytest.raises(InputError, match='MraForSequenceClassification cannot be trained: its scores do '
                       'not depend on the text'):
        load_base(base, SCHEMA, None)


@pytest.mark.parametrize('name', [name for name in FAMILIES if name != 'mra'])
def test_family(name, tmp_path):
    "The head is new, the rest is the base model's; padding, LoRA, calibration and long texts work."
    torch.manual_seed(0)
    config, cls = FAMILIES[name]
    nli = cls(small(name, num_labels=2))
    model, tokenizer = load_base(saved(name, nli, tmp_path/'nli'), SCHEMA, None, max_length=LENGTH)
    for key, weight in nli.base_model.state_dict().items():
        assert torch.equal(weight, model.base_model.state_dict()[key])
    inputs = [text[0] for text in read_tokens(tokenizer, TEXTS, Reading())[0]]
    assert max(map(len, inputs)) == tokenizer.model_max_length
    assert not set(sum(text_ids(tokenizer, TEXTS), [])) & set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    padding = padding_of(tokenizer, model)
    with torch.no_grad():
        alone = scores(model, padding, [[ids] for ids in inputs])
        assert alone.std(0).max() > 1e-3
        assert torch.isfinite(alone).all()
        near(scores(model, padding, [inputs]), alone)
        near(scores(fold_temperature(copy.deepcopy(model), 2.5), padding, [inputs]), alone / 2.5, 1e-5)
        if tokenizer.model_max_length < LENGTH:
            with pytest.raises((IndexError, RuntimeError)):
                scores(model, padding, [[[5] * (tokenizer.model_max_length + 1)]])
    lora(copy.deepcopy(model), padding, inputs, alone)
    model.save_pretrained(tmp_path/'tuned'), tokenizer.save_pretrained(tmp_path/'tuned')
    near(DebertaZeroShot(str(tmp_path/'tuned'), device='cpu', dtype='float32').logits(TEXTS), alone)


def lora(model, padding, inputs, before):
    "LoRA trains no layer of the head by products, and the head as it is; merged, the model is an ordinary one."
    layers, head = lora_parts(model)
    if not layers:  # I-BERT and SqueezeBERT have no linear layers but those of their heads
        with pytest.raises(InputError, match='has no linear layers that LoRA could train beside'):
            with_lora(model)
        return
    last = next(key for key, module in model.named_modules() if module is head_of(model))
    assert any(f'{last}.'.startswith(f'{part}.') for part in head)
    trained = with_lora(model)
    inside = {key for key, weight in trained.named_parameters() if weight.requires_grad}
    assert all('lora_' in key or any(f'.{part}.' in key for part in head) for key in inside)
    assert not any('lora_' in key and any(f'.model.{part}.' in key for part in head) for key in inside)
    whole = merged(trained)
    assert type(whole).__name__ == type(model).__name__
    with torch.no_grad(): near(scores(whole.eval(), padding, [inputs]), before)
