"""Every family of sequence classifiers that transformers can build here, at a tiny size: loaded as a base model, trained beside with LoRA, calibrated, and read in batches."""
import copy, warnings

import numpy as np, pytest, torch, transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from libdocs.classifiers.deberta import DebertaZeroShot
from libdocs.classifiers.forward import Forward, padding_of
from libdocs.classifiers.reading import Reading, read_tokens
from libdocs.finetune.base import cool_head, head_of, load_base
from libdocs.finetune.trainer import lora_parts, merged, with_lora
from libdocs.labels import LabelSchema
from libdocs.records import InputError

warnings.filterwarnings('ignore')
transformers.logging.set_verbosity_error()

# As many labels as numbers a token, so that no other layer of a head can be told from the last one by its size.
WIDTH, LENGTH = 16, 40
SIZES = dict(
    vocab_size=80, hidden_size=WIDTH, d_model=WIDTH, n_embd=WIDTH, dim=WIDTH, emb_dim=WIDTH, embedding_size=WIDTH, word_embed_proj_dim=WIDTH, intermediate_size=32, d_ff=32, d_inner=32, dff=32,
    ffn_dim=32, hidden_dim=32, encoder_ffn_dim=32, decoder_ffn_dim=32, moe_intermediate_size=16, shared_expert_intermediate_size=16, num_hidden_layers=2, num_layers=2, n_layer=2, n_layers=2,
    encoder_layers=2, decoder_layers=2, num_decoder_layers=2, num_attention_heads=2, num_key_value_heads=2, num_heads=2, n_head=2, n_heads=2, encoder_attention_heads=2, decoder_attention_heads=2,
    head_dim=8, d_head=8, d_kv=8, rotary_dim=4, max_position_embeddings=LENGTH, n_positions=LENGTH, max_seq_len=LENGTH, num_experts=4, num_local_experts=4, n_routed_experts=4, num_experts_per_tok=2,
    q_lora_rank=8, kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8, entity_vocab_size=5,
    pad_token_id=0, unk_token_id=1, bos_token_id=2, cls_token_id=2, eos_token_id=3, sep_token_id=3, decoder_start_token_id=0, initializer_range=.3, init_std=.3)
OWN = {  # what a family wants besides
    'funnel': dict(block_sizes=[1, 1]), 'gpt_neo': dict(attention_types=[[['global', 'local'], 1]]), 'jamba': dict(attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2),
    't5': dict(decoder_start_token_id=0), 'xmod': dict(default_language='en_XX', languages=['en_XX']),
    'roc_bert': dict(pronunciation_vocab_size=80, shape_vocab_size=80), 'qwen3_next': dict(layer_types=['linear_attention', 'full_attention']), 'qwen3_5_text': dict(layer_types=['linear_attention', 'full_attention'])}
WITHOUT = {'funnel': ['num_hidden_layers'], 'falcon': ['head_dim'], 'xlnet': ['max_position_embeddings']}
NOT_FOR_TEXTS = {
    **dict.fromkeys(('gemma3', 'modernvbert', 'ultravbert', 'qwen3_5', 't5gemma2'), 'has a part for pictures, which cannot be made small by these sizes'),
    **dict.fromkeys(('layoutlm', 'layoutlmv2', 'layoutlmv3', 'lilt', 'markuplm', 'tapas'), 'wants to know where on a page, or in which cell, a word stands'),
    **dict.fromkeys(('canine', 'perceiver'), 'reads bytes or characters, and has no fast tokenizer'),
    't5gemma': 'is made of two configurations, which cannot be made small by these sizes'}


def families():
    mapping = AutoModelForSequenceClassification._model_mapping
    for config in dict.fromkeys(mapping.keys()):
        if config.model_type not in NOT_FOR_TEXTS: yield config.model_type, config, mapping[config] if not isinstance(mapping[config], tuple) else mapping[config][0]
FAMILIES = {name: (config, cls) for name, config, cls in families()}


def small(name, **more):
    config, _ = FAMILIES[name]
    default, without = config(), WITHOUT.get(name, ())
    return config(**{k: v for k, v in SIZES.items() if hasattr(default, k) and k not in without} | OWN.get(name, {}) | more)
